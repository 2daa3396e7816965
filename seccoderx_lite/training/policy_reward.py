"""The policy's reward as the callable that TRL calls, with its records and alarms."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seccoderx_lite.core.errors import RunStopped
from seccoderx_lite.core.esr import effective_safety_rate
from seccoderx_lite.core.numbers import mean
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.models.distributed import gather_values
from seccoderx_lite.recipe.recipe import PolicyRecipe
from seccoderx_lite.rewards.answers import ScoredCompletion
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.alarms import Alarms, step_shares
from seccoderx_lite.training.canaries import Canaries
from seccoderx_lite.training.curriculum import Curriculum
from seccoderx_lite.training.step_records import PhaseClock

logger = logging.getLogger(__name__)


class CompositeReward:
    """The only reward callable of policy training; keeps the metrics of the last batch."""

    __name__ = "composite"

    def __init__(
        self,
        tasks: Sequence[Task],
        scorer: Scorer,
        policy: PolicyRecipe,
        folder: RunFolder,
        clock: PhaseClock,
        canaries: Canaries | None,
        curriculum: Curriculum | None = None,
    ) -> None:
        self._tasks = {task.id: task for task in tasks}
        self._scorer = scorer
        self._group_size = policy.grpo.group_size
        self._alarm_settings = policy.alarms
        self._alarms: Alarms | None = None
        self._folder = folder
        self._clock = clock
        self._canaries = canaries
        self._curriculum = curriculum
        self._logged: set[str] = set()
        self._step: dict[str, Json] = {}

    def __call__(
        self,
        completions: list[Any],
        task_id: list[str],
        completion_ids: list[list[int]],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **columns: Any,
    ) -> list[float | None]:
        """Return the reward of each completion, None for one that could not be scored."""
        self._clock.lap("reference")
        step = trainer_state.global_step + 1
        tasks = [self._tasks[identifier] for identifier in task_id]
        texts = [completion[0]["content"] for completion in completions]
        scored = self._scorer.score(tasks, texts, lambda: self._clock.lap("judge"))
        self._clock.lap("tests")
        self._step = _means(scored)
        self._step["completion_tokens"] = sum(map(len, completion_ids))
        if self._canaries:
            self._step |= self._canaries.check(step)
            self._clock.lap("canaries")
        shares = step_shares(scored, self._group_size)
        self._step |= shares
        if self._curriculum:
            self._step |= self._teach(self._curriculum, columns["draw"], task_id, scored)
        self._raise_alarms(step, shares)
        for name, value in self._step.items():
            if isinstance(value, int | float):
                log_metric(name, value)
        for record in _rollout_records(step, tasks[: self._group_size], scored):
            self._folder.append_jsonl("completions.jsonl", record)
        return [item.reward for item in scored]

    def _teach(
        self,
        curriculum: Curriculum,
        draw: Sequence[int],
        task_ids: Sequence[str],
        scored: Sequence[ScoredCompletion],
    ) -> dict[str, Json]:
        """Tell the curriculum what the groups of all processes earned."""
        rewards = [item.reward for item in scored]
        shares = gather_values((list(task_ids), rewards))
        names = [name for names, _ in shares for name in names]
        curriculum.record(draw[0], names, [r for _, rs in shares for r in rs], self._group_size)
        return {"seldom_share": curriculum.seldom_share}

    def _raise_alarms(self, step: int, shares: Mapping[str, float | None]) -> None:
        # Not before the first step: resuming has dropped the records past the checkpoint by then.
        if self._alarms is None:
            records = self._folder.read_records("metrics.jsonl")
            # A record of held-out tasks alone belongs to no step of training.
            earlier = [r for r in records if r["stage"] == "policy" and "stub_share" in r]
            self._alarms = Alarms(self._alarm_settings, earlier)
        alarms = self._alarms.check(step, shares)
        self._step["alarms"] = [alarm.message for alarm in alarms]
        for alarm in alarms:
            if alarm.name not in self._logged:
                logger.warning("step %d: alarm: %s", step, alarm.message)
        self._logged = {alarm.name for alarm in alarms}  # logged again only after a step without it
        if alarms and self._alarm_settings.action == "stop":
            raise RunStopped(
                f"policy: stopped at step {step}: {'; '.join(self._step['alarms'])}; look at "
                "completions.jsonl, then change the reward, the judge or the threshold in "
                "policy.alarms"
            )

    def step_values(self, step: int) -> Mapping[str, Json]:
        """Return the last batch's metrics for the step's record."""
        return self._step


def _means(scored: Sequence[ScoredCompletion]) -> dict[str, Json]:
    values: dict[str, Json] = {
        f"reward/{name}": mean([float(p) for s in scored if (p := s.parts[name]) is not None])
        for name in scored[0].parts
    }
    tested = [item.tests for item in scored if item.tests]
    attacked = [tests for tests in tested if tests.security_total]
    rates = [
        effective_safety_rate(tests.measured_function, float(tests.is_secure)) for tests in attacked
    ]
    labels = [item.verdict.label for item in scored if item.verdict and item.verdict.label]
    return values | {
        "functional_share": mean([tests.measured_function for tests in tested]),
        "security_share": mean([float(tests.is_secure) for tests in attacked]),
        "rollout_esr": mean(rates),
        "judged_safe_share": mean([float(label == "safe") for label in labels]),
        "unclear_verdicts": labels.count("unclear"),
        "unscored": sum(item.reward is None for item in scored),
    }


def _rollout_records(
    step: int, tasks: Sequence[Task], scored: Sequence[ScoredCompletion]
) -> list[dict[str, Json]]:
    return [
        {
            "stage": "policy",
            "step": step,
            "task": task.id,
            "cwe": list(task.cwe),
            "language": task.language,
            "prompt": task.prompt,
            "reference": task.reference,
            "completion": item.answer.completion,
            "reward": item.reward,
            "parts": dict(item.parts),
            "verdict": item.verdict.label if item.verdict else None,
            "reasoning": item.verdict.reasoning if item.verdict else None,
            "tests": item.tests.status if item.tests else None,
            "test_output": item.tests.output if item.tests else None,
        }
        for task, item in zip(tasks, scored, strict=False)
    ]
