"""Training that goes wrong ends at once: numbers that are not finite, and values that explode.

A gradient is checked before it changes the weights, the weights and the logged values before a
checkpoint is saved, so that the newest checkpoint is always from before the fault.
"""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.numbers import finite
from seccoderx_lite.core.records import Json
from seccoderx_lite.models.adapters import adapter_parameters

WATCHED: Mapping[str, str] = {
    "loss": "the learning rate is too high",
    "grad_norm": "the learning rate is too high, or a reward has outliers",
    "kl": "the policy moves too fast: the learning rate is too high or kl is too low",
    "reward": "a term of policy.reward.terms pays without a bound",
}
"""Values that may explode, and the likely cause."""
FACTOR = 100.0
"""A value explodes if it is so many times the median of the steps before it, and above `FACTOR`
itself: values near 0 jump by such factors in sound runs."""
WINDOW, FEWEST = 20, 5
"""Steps that the median is taken of, at most and at least."""
SKIPPED = 10
"""Float16 skips a step whose gradient overflows and lowers its scale; so many in a row do not
recover."""


class DivergenceGuard:
    """Watches the gradients, the weights and the values of each step of one stage."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._earlier: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in WATCHED}
        self._overflows = 0

    def check_gradients(self, args: Any, step: int, model: Any) -> None:
        """Check the gradients of a step before they change the weights.

        Raises:
            ModelError: one is not finite; in float16, in ten steps in a row.
        """
        bad = _not_finite(model, of_gradients=True)
        self._overflows = self._overflows + 1 if bad else 0
        if bad and not (args.fp16 and self._overflows < SKIPPED):
            cause = "the learning rate is too high, or activations overflow in 16 bits"
            what = f"the gradient of step {step} is not finite, such as in {bad}"
            raise self._error(args, what, cause)

    def check_weights(self, args: Any, step: int, model: Any) -> None:
        """Check the trained weights after a step, before a checkpoint of them is saved.

        Raises:
            ModelError: one is not finite.
        """
        if bad := _not_finite(model, of_gradients=False):
            what = (
                f"after step {step} the adapter has weights that are not finite, such as in {bad}"
            )
            raise self._error(args, what, "the learning rate is too high")

    def check_values(self, args: Any, step: int, values: Mapping[str, Json]) -> None:
        """Check what was logged of a step, before a checkpoint is saved.

        Raises:
            ModelError: a value is not finite, or explodes.
        """
        for name, cause in WATCHED.items():
            given = values.get(name)
            if not isinstance(given, int | float):
                continue
            value, earlier = finite(float(given)), self._earlier[name]
            may_overflow = name == "grad_norm" and args.fp16  # such a step is skipped
            if value is None and name != "reward" and not may_overflow:
                raise self._error(args, f"{name} of step {step} is {given}", cause)
            if value is None:
                continue
            usual = median(earlier) if len(earlier) >= FEWEST else None
            if usual is not None and abs(value) > FACTOR * max(usual, 1.0):
                what = f"{name} of step {step} is {value:.4g}, after a median of {usual:.4g}"
                raise self._error(args, what, cause)
            earlier.append(abs(value))

    def _error(self, args: Any, what: str, cause: str) -> ModelError:
        return ModelError(
            f"{self._stage}: {what}; likely cause: {cause}; {_way_out(self._stage, args)}"
        )


def _not_finite(model: Any, *, of_gradients: bool) -> str | None:
    """The name of a trained parameter that, or whose gradient, is not finite."""
    for name, parameter in adapter_parameters(model, "trained").items():
        values = parameter.grad if of_gradients else parameter
        if values is not None and not values.isfinite().all():
            return name
    return None


def _way_out(stage: str, args: Any) -> str:
    """What to do, from the newest checkpoint if there is one."""
    steps = [int(each.name[11:]) for each in Path(args.output_dir).glob("checkpoint-[0-9]*")]
    if not steps:
        return "no checkpoint was saved yet: lower the learning rate and start again with --fresh"
    checkpoint = Path(args.output_dir) / f"checkpoint-{max(steps)}"
    if stage != "policy":
        return (
            f"{checkpoint.name} is from before it and sound, but the same settings would fail "
            "again: lower the learning rate and start again with --fresh"
        )
    return (
        f"{checkpoint.name} is from before it and sound; to go on from there, lower the learning "
        f"rate in a new run that starts with -o policy.adapter={checkpoint}"
    )
