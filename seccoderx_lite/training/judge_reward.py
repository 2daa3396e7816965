"""The reward of the judge's own GRPO training as the callable that TRL calls."""

from collections.abc import Callable, Mapping
from typing import Any

from seccoderx_lite.core.records import Json
from seccoderx_lite.judge.verdict import VerdictForm, parse_verdict
from seccoderx_lite.rewards.label_reward import label_reward
from seccoderx_lite.training.step_records import PhaseClock


class LabelReward:
    """The reward callable of `align`: a class rather than a closure, so that it can be pickled."""

    __name__ = "label"

    def __init__(self, clock: PhaseClock) -> None:
        self._clock = clock
        self._step: dict[str, float] = {}

    def __call__(
        self,
        completions: list[Any],
        is_vulnerable: list[bool],
        form: list[VerdictForm],
        completion_ids: list[list[int]],
        log_metric: Callable[[str, float], None],
        **columns: Any,
    ) -> list[float | None]:
        """Return the reward of each answer; the other columns of the rows are ignored."""
        self._clock.lap("reference")
        texts = [completion[0]["content"] for completion in completions]
        parts = [label_reward(*row) for row in zip(texts, is_vulnerable, form, strict=True)]
        self._step = {
            "accuracy": sum(part["accuracy"] for part in parts) / len(parts),
            "format": sum(part["format"] for part in parts) / len(parts),
            "unclear_share": sum(parse_verdict(text) == "unclear" for text in texts) / len(texts),
            "completion_tokens": sum(map(len, completion_ids)),
        }
        for name, value in self._step.items():
            log_metric(name, value)
        self._clock.lap("reward")
        return [part["reward"] for part in parts]

    def step_values(self, step: int) -> Mapping[str, Json]:
        """Return the last batch's metrics for the step's record."""
        return self._step
