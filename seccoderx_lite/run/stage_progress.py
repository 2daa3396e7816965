"""Where a stage is, in words: position, time left, measures. All displays of progress use it."""

import time
from collections import deque
from collections.abc import Mapping

from seccoderx_lite.core.records import Json

MEASURES = {
    "reward": "reward",
    "reward/vulnerability": "safe",
    "reward/length": "length",
    "reward/similarity": "similar",
    "functional_share": "functional",
    "rollout_esr": "ESR",
    "held_out_esr": "held-out ESR",
    "held_out_functional": "held-out functional",
    "accuracy": "accuracy",
    "verdict_accuracy": "verdicts right",
    "loss": "loss",
    "kl": "KL",
    "cost": "cost",
}
"""Measures that are shown, in this order, and their labels: the reward, its parts, then others."""

NAME_WIDTH = 11
WINDOW = 20
"""Reports over which the speed is taken."""


class StageProgress:
    """Position, speed and last measures of one stage."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.step = 0
        self.total = 0
        self.note = ""
        """What the stage does now; empty while it counts steps."""
        self._values: Mapping[str, Json] = {}
        self._begin = time.monotonic()
        self._reports: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def update(self, step: int, total: int, values: Mapping[str, Json]) -> None:
        """Take in one report."""
        self.note = str(values.get("note", ""))
        if total:
            self.step, self.total = step, total
            self._reports.append((time.monotonic(), step))
            # Held-out tasks are measured every few steps: the last measurement stays in sight.
            kept = {k: v for k, v in self._values.items() if k.startswith("held_out_")}
            self._values = {**kept, **values} if values else self._values

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stage began in this process."""
        return time.monotonic() - self._begin

    def left_s(self) -> float | None:
        """Return the seconds the stage still needs at its current speed, None while unknown."""
        if len(self._reports) < 2 or self._reports[-1][1] <= self._reports[0][1]:
            return None
        (begin, first), (end, last) = self._reports[0], self._reports[-1]
        at_end = (end - begin) / (last - first) * (self.total - last)
        return max(0.0, at_end - (time.monotonic() - end))

    def position(self) -> str:
        """Return step, total and time left, or what the stage does now.

        >>> stage = StageProgress("policy")
        >>> stage.update(3, 1200, {})
        >>> stage.position()
        '3/1,200'
        """
        if self.note or not self.total:
            return self.note
        left = self.left_s()
        return f"{self.step:,}/{self.total:,}" + (f", {clock(left)} left" if left else "")

    def speed(self) -> str:
        """Return the tokens per second, empty where the stage does not count them."""
        rate = self._values.get("tokens_per_s")
        return f"{rate:,.0f} tokens/s" if isinstance(rate, int | float) else ""

    def measures(self) -> list[str]:
        """Return the last measures with their labels, the most important first."""
        phase = {"before": ["base model"], "after": ["trained policy"]}
        return phase.get(str(self._values.get("phase")), []) + [
            f"{label} {value:.2g}" if abs(value) < 0.1 and value else f"{label} {value:.2f}"
            for key, label in MEASURES.items()
            if isinstance(value := self._values.get(key), int | float)
        ]


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds.

    >>> clock(83), clock(3683)
    ('1:23', '1:01:23')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def joined(parts: list[str], width: int, separator: str = "  ") -> str:
    """Return the leading parts that fit into a width, with a separator between them.

    >>> joined(["reward 4.51", "ESR 0.75"], 15)
    'reward 4.51'
    """
    text = ""
    for part in parts:
        longer = f"{text}{separator}{part}" if text else part
        if len(longer) > width:
            break
        text = longer
    return text


def finished_line(name: str, stage: StageProgress | None, width: int) -> str:
    """Return the line for a stage that has ended; `stage` is the one that worked last."""
    if stage is None or stage.name != name:
        return f"{name:<{NAME_WIDTH}}was finished earlier"
    line = f"{name:<{NAME_WIDTH}}done in {clock(stage.elapsed_s)}"
    return joined([line, *stage.measures()], width)
