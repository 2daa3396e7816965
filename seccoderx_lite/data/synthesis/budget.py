"""What requests to a server cost, and a cap on the total."""

import threading
from dataclasses import dataclass

from seccoderx_lite.core.errors import GeneratorError


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a million tokens, in any currency."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return the price of one request.

        >>> Price(2.0, 10.0).of(500_000, 100_000)
        2.0
        """
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Budget:
    """A spending cap shared by threads: the most a request may cost is reserved before it is sent.

    The cap therefore holds even if every request in flight uses all of its tokens. It does not
    cover a reply that is billed but lost on the way.
    """

    def __init__(self, cap: float | None, spent: float = 0.0) -> None:
        self._cap = cap
        self.spent = spent
        self._reserved = 0.0
        self._changed = threading.Condition()

    def reserve(self, most: float) -> None:
        """Reserve the most a request may cost; wait if requests in flight leave no room for it.

        Raises:
            GeneratorError: the request could raise the total above the cap.
        """
        with self._changed:
            while self._cap is not None and self.spent + self._reserved + most > self._cap:
                if self.spent + most > self._cap:
                    raise GeneratorError(
                        f"generator.max_cost: {self.spent:.4f} of {self._cap:g} is spent, and the "
                        f"next request may cost {most:.4f}; raise generator.max_cost and repeat "
                        "the command to go on (every reply is kept)"
                    )
                self._changed.wait()
            self._reserved += most

    def settle(self, most: float, cost: float) -> None:
        """Replace a reservation by the actual cost."""
        with self._changed:
            self._reserved -= most
            self.spent += cost
            self._changed.notify_all()
