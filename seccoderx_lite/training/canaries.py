"""Canaries: labelled code that the judge is tested on now and then while the policy trains."""

import random
from collections.abc import Sequence

from seccoderx_lite.core.errors import RunStopped
from seccoderx_lite.core.records import Json, LabelledCode
from seccoderx_lite.judge.judge import Judge, judge_accuracy
from seccoderx_lite.recipe.recipe import Recipe


class Canaries:
    """Balanced labelled code, and the judge's accuracy on it."""

    def __init__(self, judge: Judge, recipe: Recipe, labelled: Sequence[LabelledCode]) -> None:
        assert recipe.judge is not None
        self._settings = recipe.judge.canaries
        self._judge = judge
        self._rows = _balanced(labelled, self._settings.count, recipe.seed)

    def check(self, step: int) -> dict[str, Json]:
        """Judge the canaries every `every` steps; return the accuracy for the step's record.

        Raises:
            RunStopped: the accuracy is below the recipe's threshold.
        """
        if step % self._settings.every or not self._rows:
            return {}
        # Without its cache: cached verdicts would hide that the judge has changed.
        result = judge_accuracy(self._judge.without_memory(), self._rows)
        if not result["n"]:
            return {"canary_accuracy": None}
        if result["accuracy"] < self._settings.min_accuracy:
            raise RunStopped(
                f"judge.canaries: stopped at step {step}: the judge's accuracy on "
                f"{result['n']:.0f} labelled samples is {result['accuracy']:.2f}, below "
                f"min_accuracy {self._settings.min_accuracy:g}; train the judge longer "
                "(judge.cold_start, judge.align) or lower judge.canaries.min_accuracy"
            )
        return {"canary_accuracy": result["accuracy"]}


def _balanced(labelled: Sequence[LabelledCode], count: int, seed: int) -> list[LabelledCode]:
    shuffled = random.Random(seed).sample(list(labelled), len(labelled))
    halves = [[row for row in shuffled if row.is_vulnerable is truth] for truth in (True, False)]
    return [row for half in halves for row in half[: count // 2]]
