"""Canaries: labelled code that the judge is tested on before and while the policy trains."""

import logging
import random
from collections.abc import Mapping, Sequence

from seccoderx_lite.core.errors import RunStopped
from seccoderx_lite.core.numbers import wilson_interval
from seccoderx_lite.core.records import Json, LabelledCode
from seccoderx_lite.data.loading import validation_or_all
from seccoderx_lite.judge.judge import Judge, judge_accuracy
from seccoderx_lite.recipe.recipe import Recipe

logger = logging.getLogger(__name__)

_MORE_TRAINING = "train the judge longer or on more data (judge.cold_start, judge.align)"


class Canaries:
    """Balanced labelled code, and the judge's accuracy on it."""

    def __init__(self, judge: Judge, recipe: Recipe, labelled: Sequence[LabelledCode]) -> None:
        assert recipe.judge is not None
        self._settings = recipe.judge.canaries
        self._judge = judge
        self._seed = recipe.seed
        self._rows = validation_or_all(labelled)
        self._held_out, self._kind = _held_out(labelled)

    def measure(self) -> dict[str, Json]:
        """Return the judge's accuracy before the first policy step, on held-out code if any is.

        Raises:
            RunStopped: it is not surely better than chance, and the recipe does not allow that.
        """
        rows = balanced(self._held_out, self._settings.count, random.Random(self._seed))
        if not rows:
            logger.warning(
                "judge.canaries: the labelled code is all of one kind, so the judge is "
                "not measured; set judge.canaries.data"
            )
            return {}
        result = judge_accuracy(self._judge.without_memory(), rows)
        text = f"the judge is {describe_accuracy(result)} of {self._kind}"
        logger.info("judge.canaries: %s", text)
        interval = _interval(result)
        if interval is None or interval[0] <= 0.5:
            if self._settings.refuse_chance:
                raise RunStopped(
                    f"judge.canaries: {text}. That is not surely better than chance (0.5), so its "
                    f"reward would teach the policy nothing; {_MORE_TRAINING}, raise "
                    "judge.canaries.count for a narrower interval, or set "
                    "judge.canaries.refuse_chance: false to train anyway"
                )
            logger.warning("judge.canaries: %s: not surely better than chance", text)
        return {**result, "interval_95": interval}

    def check(self, step: int) -> dict[str, Json]:
        """Judge other canaries every `every` steps; return the accuracy for the step's record.

        Raises:
            RunStopped: the accuracy is surely below the recipe's threshold.
        """
        rng = random.Random(f"{self._seed} {step}")
        is_due = step % self._settings.every == 0
        rows = balanced(self._rows, self._settings.count, rng) if is_due else []
        if not rows:
            return {}
        # Without its cache: cached verdicts would hide that the judge has changed.
        result = judge_accuracy(self._judge.without_memory(), rows)
        interval = _interval(result)
        if interval is None:
            return {"canary_accuracy": None}
        if interval[1] < self._settings.min_accuracy:
            raise RunStopped(
                f"judge.canaries: stopped at step {step}: the judge is {describe_accuracy(result)} "
                f"of labelled code, below min_accuracy {self._settings.min_accuracy:g}; "
                f"{_MORE_TRAINING} or lower judge.canaries.min_accuracy"
            )
        return {"canary_accuracy": result["accuracy"]}


def describe_accuracy(result: Mapping[str, float | None]) -> str:
    """Return an accuracy with its interval, and what was unclear or unscored.

    >>> describe_accuracy({"accuracy": 0.5, "unclear_share": 0.0, "n": 4.0, "unscored": 1.0})
    'right on 50.0% [15.0%, 85.0%] of 4 samples (0.0% unclear, 1 unscored)'
    >>> describe_accuracy({"accuracy": None, "unclear_share": None, "n": 0.0, "unscored": 5.0})
    'without a verdict on any of 5 samples'
    """
    accuracy, unclear, n = result["accuracy"], result["unclear_share"], result["n"] or 0.0
    unscored, interval = result["unscored"] or 0.0, _interval(result)
    if accuracy is None or interval is None:
        return f"without a verdict on any of {unscored:.0f} samples"
    return (
        f"right on {accuracy:.1%} [{interval[0]:.1%}, {interval[1]:.1%}] of {n:.0f} samples "
        f"({unclear or 0.0:.1%} unclear, {unscored:.0f} unscored)"
    )


def _interval(result: Mapping[str, float | None]) -> tuple[float, float] | None:
    accuracy, n = result["accuracy"], int(result["n"] or 0)
    return None if accuracy is None or not n else wilson_interval(round(accuracy * n), n)


def _held_out(labelled: Sequence[LabelledCode]) -> tuple[list[LabelledCode], str]:
    """Return the split `held_out`, else `validation`, else everything; and what it is."""
    for split, kind in (("held_out", "held-out code"), ("validation", "validation code")):
        if chosen := [row for row in labelled if row.extra.get("split") == split]:
            return chosen, kind
    return list(labelled), "labelled code without splits, which it may have been trained on"


def balanced(
    labelled: Sequence[LabelledCode], count: int, rng: random.Random
) -> list[LabelledCode]:
    """Draw at most `count` samples, as many vulnerable as safe ones."""
    shuffled = rng.sample(list(labelled), len(labelled))
    halves = [[row for row in shuffled if row.is_vulnerable is truth] for truth in (True, False)]
    size = min(count // 2, *map(len, halves))
    return [row for half in halves for row in half[:size]]
