"""Align the policy by GRPO against the composite reward.

Which GRPO this is (TRL's `GRPOTrainer`, its methods untouched):

- rollouts: `prompts_per_step` tasks x `group_size` completions, one optimiser step a batch, so the
  policy ratio is 1 and clipping (0.2 below, 0.3 above) bites only if `trainer:` asks for more
  iterations;
- advantages: (reward - group mean) / (group standard deviation + 1e-4); completions that could not
  be scored have no reward, are outside their group's mean and get advantage 0;
- loss: `dapo`, the sum over completion tokens divided by the number of tokens in the whole batch;
- KL: per token, k3 estimator, coefficient `kl`, against the base with adapters switched off.

Clipping, KL, loss averaging and the defaults of `kl` and `temperature` are those of SecCoderX
(EasyR1 scripts). There the scale is std + 1e-6, a dual clip of 3 bounds the loss, weights decay by
0.01, and a rollout batch makes four optimiser steps.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import DataError, ModelError, RunStopped
from seccoderx_lite.core.records import Json, LabelledCode, ScoredCompletion, Task
from seccoderx_lite.data.loading import held_back, in_split, load_labelled, load_tasks
from seccoderx_lite.judge.judge import Judge, judge_accuracy
from seccoderx_lite.models.generation import render_chat
from seccoderx_lite.models.roles import (
    Base,
    adapter_digest,
    attach_adapter,
    detach_adapters,
    save_adapter,
)
from seccoderx_lite.recipe.recipe import PolicyRecipe, Recipe
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.training.alarms import Alarms, step_shares
from seccoderx_lite.training.role_proofs import prove_rollouts_use_policy
from seccoderx_lite.training.trainers import (
    PhaseClock,
    Progress,
    StepRecorder,
    grpo_config,
    make_grpo_trainer,
    mean,
    no_progress,
    prepare_generation,
    train,
)

logger = logging.getLogger(__name__)


class CompositeReward:
    """The one reward callable of policy training; keeps what the step's record needs."""

    __name__ = "composite"

    def __init__(
        self,
        tasks: Sequence[Task],
        scorer: Scorer,
        policy: PolicyRecipe,
        folder: RunFolder,
        clock: PhaseClock,
        canaries: "Canaries | None",
    ) -> None:
        self._tasks = {task.id: task for task in tasks}
        self._scorer = scorer
        self._group_size = policy.grpo.group_size
        self._alarm_settings = policy.alarms
        self._alarms: Alarms | None = None
        self._folder = folder
        self._clock = clock
        self._canaries = canaries
        self._ringing: set[str] = set()
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
        shares = step_shares(tasks, scored, self._group_size)
        self._step |= shares
        self._raise_alarms(step, shares)
        for name, value in self._step.items():
            if isinstance(value, int | float):
                log_metric(name, value)
        for record in _rollout_records(step, tasks[: self._group_size], scored):
            self._folder.append_jsonl("completions.jsonl", record)
        return [item.reward for item in scored]

    def _raise_alarms(self, step: int, shares: Mapping[str, float | None]) -> None:
        if self._alarms is None:  # only now the records lost by an interruption are gone
            records = self._folder.read_jsonl("metrics.jsonl")
            earlier = [record for record in records if record["stage"] == "policy"]
            self._alarms = Alarms(self._alarm_settings, earlier)
        messages = self._alarms.check(step, shares)
        self._step["alarms"] = messages
        names = {message.split()[0] for message in messages}
        for message in messages:
            if message.split()[0] not in self._ringing:
                logger.warning("step %d: alarm: %s", step, message)
        self._ringing = names
        if messages and self._alarm_settings.action == "stop":
            raise RunStopped(
                f"policy: stopped at step {step}: {'; '.join(messages)}; look at "
                "completions.jsonl, then change the reward, the judge or the threshold under "
                "policy.alarms"
            )

    def step_values(self, step: int) -> Mapping[str, Json]:
        """Return what the last batch adds to the step's record."""
        return self._step


def _means(scored: Sequence[ScoredCompletion]) -> dict[str, Json]:
    names = scored[0].parts.keys()
    values: dict[str, Json] = {
        f"reward/{name}": mean([float(p) for s in scored if (p := s.parts[name]) is not None])
        for name in names
    }
    tested = [item.tests for item in scored if item.tests]
    attacked = [tests for tests in tested if tests.security_total]
    values["functional_share"] = mean([tests.functional_share or 0.0 for tests in tested])
    values["security_share"] = mean([float(tests.is_secure) for tests in attacked])
    values["rollout_esr"] = mean(
        [(tests.functional_share or 0.0) * tests.is_secure for tests in attacked]
    )
    values["judged_safe_share"] = mean(
        [
            float(item.verdict.label == "safe")
            for item in scored
            if item.verdict and item.verdict.label
        ]
    )
    values["unclear_verdicts"] = sum(
        item.verdict is not None and item.verdict.label == "unclear" for item in scored
    )
    values["unscored"] = sum(item.reward is None for item in scored)
    return values


def _rollout_records(
    step: int, tasks: Sequence[Task], scored: Sequence[ScoredCompletion]
) -> list[dict[str, Json]]:
    return [
        {
            "stage": "policy",
            "step": step,
            "task": task.id,
            "cwe": list(task.cwe),
            "prompt": task.prompt,
            "completion": item.completion,
            "reward": item.reward,
            "parts": dict(item.parts),
            "verdict": item.verdict.label if item.verdict else None,
            "reasoning": item.verdict.reasoning if item.verdict else None,
            "tests": item.tests.status if item.tests else None,
            "test_output": item.tests.output if item.tests else None,
        }
        for task, item in zip(tasks, scored, strict=False)
    ]


class Canaries:
    """Code with known truth that the judge meets now and then; its accuracy is watched."""

    def __init__(self, judge: Judge, recipe: Recipe, labelled: Sequence[LabelledCode]) -> None:
        assert recipe.judge is not None
        self._settings = recipe.judge.canaries
        self._judge = judge
        self._rows = _balanced(labelled, self._settings.count, recipe.seed)

    def check(self, step: int) -> dict[str, Json]:
        """Judge the canaries if their turn has come; return their accuracy for the record.

        Raises:
            RunStopped: the accuracy is below the recipe's threshold.
        """
        if step % self._settings.every or not self._rows:
            return {}
        # A judge that remembers its verdicts of an earlier round would show nothing.
        result = judge_accuracy(self._judge.afresh(), self._rows)
        if not result["n"]:
            return {"canary_accuracy": None}
        if result["accuracy"] < self._settings.min_accuracy:
            raise RunStopped(
                f"judge.canaries: stopped at step {step}: the judge is right on "
                f"{result['accuracy']:.2f} of {result['n']:.0f} pieces of code with known truth, "
                f"below min_accuracy {self._settings.min_accuracy:g}; train the judge longer "
                "(judge.cold_start, judge.align) before it is used as a reward"
            )
        return {"canary_accuracy": result["accuracy"]}


def _balanced(labelled: Sequence[LabelledCode], count: int, seed: int) -> list[LabelledCode]:
    shuffled = random.Random(seed).sample(list(labelled), len(labelled))
    halves = [[row for row in shuffled if row.is_vulnerable is truth] for truth in (True, False)]
    return [row for half in halves for row in half[: count // 2]]


def run(
    recipe: Recipe,
    folder: RunFolder,
    base: Base,
    judge: Judge | None,
    judge_adapter: Path | None,
    sandbox: Sandbox,
    progress: Progress = no_progress,
    make_scorer: type[Scorer] = Scorer,
) -> dict[str, Json]:
    """Train the policy adapter and save it in the run folder; return what to record.

    `judge_adapter` is put on the shared base beside the policy's; None for a judge elsewhere.
    `make_scorer` lets a benchmark score in another way.

    Raises:
        DataError: no task is left to train on.
        RunStopped: an alarm or the canaries ended the run.
    """
    policy = recipe.policy
    assert policy is not None
    detach_adapters(base)
    tasks = _rewardable(in_split(load_tasks(policy.tasks), "train"), policy)
    tasks, dropped = _fitting(tasks, base, recipe)
    rows: list[dict[str, Json]] = [
        {"prompt": [{"role": "user", "content": task.prompt}], "task_id": task.id} for task in tasks
    ]
    clock = PhaseClock()
    canaries = _canaries(recipe, judge) if judge else None
    scorer = make_scorer(policy.reward, judge, sandbox)
    reward = CompositeReward(tasks, scorer, policy, folder, clock, canaries)
    checkpoints = folder.checkpoints("policy")
    recorder = StepRecorder("policy", folder, progress, clock, reward.step_values)
    config = grpo_config(recipe, policy.grpo, checkpoints)
    trainer = make_grpo_trainer(base, recipe, config, rows, reward, recorder)
    if judge_adapter:
        attach_adapter(base, judge_adapter, "judge")
    probe = base.tokenizer(render_chat(base.tokenizer, tasks[0].prompt))["input_ids"]
    prepare_generation(base, clock)
    prove_rollouts_use_policy(base.model, base.tokenizer, probe)
    judge_before = adapter_digest(base.model, "judge")
    train(trainer, checkpoints)
    if adapter_digest(base.model, "judge") != judge_before:
        raise ModelError("the judge's weights changed while the policy trained; rewards are void")
    save_adapter(base.model, "policy", folder.policy_adapter)
    detach_adapters(base)
    return {"tasks": len(tasks), "too_long": dropped}


def _rewardable(tasks: Sequence[Task], policy: PolicyRecipe) -> list[Task]:
    """Leave out what the original formula can pay for nothing: tasks that name no weakness."""
    if policy.reward.formula != "seccoderx":
        return list(tasks)
    rewardable = [task for task in tasks if task.cwe]
    if not rewardable:
        raise DataError(
            f"policy.tasks: {policy.tasks} names no weakness (cwe), and formula: seccoderx pays "
            "for verdicts alone; use formula: guarded"
        )
    if len(rewardable) < len(tasks):
        logger.info(
            "%d of %d tasks name no weakness and are left out: formula seccoderx pays for verdicts",
            len(tasks) - len(rewardable),
            len(tasks),
        )
    return rewardable


def _fitting(tasks: Sequence[Task], base: Base, recipe: Recipe) -> tuple[list[Task], int]:
    limit = recipe.model.max_prompt_tokens
    fitting = [
        task
        for task in tasks
        if len(base.tokenizer(render_chat(base.tokenizer, task.prompt))["input_ids"]) <= limit
    ]
    if not fitting:
        raise DataError(
            f"model.max_prompt_tokens: none of {len(tasks)} tasks fits into {limit} tokens; "
            "raise it"
        )
    return fitting, len(tasks) - len(fitting)


def _canaries(recipe: Recipe, judge: Judge) -> Canaries | None:
    section = recipe.judge and (recipe.judge.align or recipe.judge.cold_start)
    data = recipe.judge.canaries.data if recipe.judge and recipe.judge.canaries.data else None
    source = data or (section.data if section else None)
    if source is None:
        logger.warning(
            "no canaries: judge.canaries.data names no labelled code to watch the judge with"
        )
        return None
    return Canaries(judge, recipe, held_back(load_labelled(source)))
