"""Train the policy by GRPO on the composite reward.

The variant of GRPO (TRL's `GRPOTrainer`, no method overridden):

- rollouts: `prompts_per_step` tasks x `group_size` completions and one optimiser step per batch, so
  the policy ratio is 1 and clipping (0.2 below, 0.3 above) has an effect only if `trainer:` sets
  more iterations;
- advantages: (reward - group mean) / (group standard deviation + 1e-4); unscored completions have
  no reward, do not count in their group's mean and get advantage 0;
- loss: `dapo`, the sum over completion tokens divided by the number of tokens in the whole batch;
- KL: per token, k3 estimator, coefficient `kl`, against the policy that training starts from: the
  base with adapters switched off, or a frozen copy of the adapter after `policy.warm_start` or in
  `policy.adapter`.

Clipping, KL, loss averaging and the defaults of `kl` and `temperature` are those of SecCoderX
(EasyR1 scripts). There the scale is std + 1e-6, a dual clip of 3 bounds the loss, weights decay by
0.01, and a rollout batch makes four optimiser steps.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import DataError, ModelError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.loading import load_labelled, training_tasks
from seccoderx_lite.evaluation.held_out import HeldOutTasks, hold_out
from seccoderx_lite.evaluation.held_out_watch import HeldOutWatch
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.judge.run_judge import judge_of
from seccoderx_lite.models.adapter_files import CONFIG_FILE, check_adapter
from seccoderx_lite.models.adapters import (
    Role,
    adapter_digest,
    attach_adapter,
    detach_adapters,
    save_adapter,
)
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.context import rollout_prompt_limit
from seccoderx_lite.models.engine import Engine, start_engine
from seccoderx_lite.models.engine_memory import uses_engine
from seccoderx_lite.models.engine_roles import EngineGenerator
from seccoderx_lite.models.generation import RoleGenerator, prompt_ids
from seccoderx_lite.recipe.recipe import PolicyRecipe, Recipe
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.rewards.task_check import sound_tasks
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress, note
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.training.canaries import Canaries
from seccoderx_lite.training.curriculum import Curriculum
from seccoderx_lite.training.engine_training import (
    engine_sampler,
    sample_with,
    sleep_after,
)
from seccoderx_lite.training.policy_reward import CompositeReward
from seccoderx_lite.training.readiness import measure_readiness, report_readiness
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.role_proofs import (
    check_answering_weights,
    check_kl_reference,
    check_rollout_weights,
)
from seccoderx_lite.training.rollout_engine import with_chosen_engine
from seccoderx_lite.training.settings import grpo_config, prompts_in_all
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer, prepare_generation

logger = logging.getLogger(__name__)


def policy_tasks(
    recipe: Recipe, folder: RunFolder, sandbox: Sandbox
) -> tuple[list[Task], list[Task]]:
    """Return the tasks to measure on during training and those to train on.

    Both are checked as `tasks.check` says. The reference of a training task that fails only
    security tests matters only if these count for the reward.

    Raises:
        DataError: there are none that can be used.
    """
    policy = recipe.policy
    assert policy is not None
    held_out, tasks = hold_out(policy, training_tasks(policy.tasks), recipe.seed)
    source = (policy.measures and policy.measures.tasks) or policy.sources
    check, known = recipe.tasks.check, folder.task_checks
    held_out = sound_tasks(held_out, source, check, sandbox, known) if held_out else []
    with_security = policy.reward.security_tests
    tasks = sound_tasks(tasks, policy.sources, check, sandbox, known, with_security=with_security)
    return held_out, tasks


def run(
    recipe: Recipe,
    folder: RunFolder,
    base: Base,
    sandbox: Sandbox,
    progress: Progress = no_progress,
    make_scorer: type[Scorer] = Scorer,
) -> dict[str, Json]:
    """Train the policy adapter and save it in the run folder; return the summary to record.

    `make_scorer` lets a benchmark replace the scorer.

    Raises:
        DataError: every task was skipped.
        RunStopped: an alarm or the canaries ended the run.
    """
    policy = recipe.policy
    assert policy is not None
    judge, judge_adapter = judge_of(recipe, folder, base)
    detach_adapters(base)
    recipe = with_chosen_engine(recipe, folder, base)
    engine = start_engine(recipe, base) if uses_engine(recipe) else None
    if engine and judge and judge_adapter:
        engine.use_adapter("judge", judge_adapter)
        judge = judge.answering_with(EngineGenerator(engine, "judge"))
    start = start_adapter(policy, folder)
    if start:
        attach_adapter(base, start, "trained", trainable=True)
    held_out, tasks = policy_tasks(recipe, folder, sandbox)
    tasks, dropped = _fitting(rewardable_tasks(tasks, policy), base, recipe)
    rows = _rows(tasks)
    clock = PhaseClock()
    canaries = _canaries(recipe, judge) if judge else None
    scorer = make_scorer(policy.reward, judge, sandbox)
    checkpoints = folder.checkpoints("policy")
    config = grpo_config(recipe, policy.grpo, checkpoints)
    curriculum = _curriculum(policy, tasks, config, recipe.seed)
    reward = CompositeReward(tasks, scorer, policy, folder, clock, canaries, curriculum)
    watch = _watch(held_out, recipe, folder, base, sandbox, clock) if held_out else None
    recorder = StepRecorder("policy", folder, progress, clock, _step_values(reward, watch))
    data = curriculum.dataset(rows, prompts_in_all(config)) if curriculum else rows
    callbacks = [each for each in (watch, curriculum) if each]
    rewards = sleep_after(reward, engine) if engine else reward
    trainer = make_grpo_trainer(base, recipe, config, data, rewards, recorder, callbacks)
    if judge_adapter:
        attach_adapter(base, judge_adapter, "judge")
    probe = prompt_ids(base.tokenizer, [tasks[0].prompt])[0]
    prepare_generation(base, clock)
    if engine:
        sample_with(engine, trainer, recipe, clock)
    _check_roles(base, engine, probe, has_judge=bool(judge_adapter))
    if start and policy.grpo.kl:
        check_kl_reference(base.model)
    checks = _checks(recipe, base, tasks, sandbox, canaries) if _is_new(checkpoints) else {}
    frozen = {role: adapter_digest(base.model, role) for role in _FROZEN}
    train(trainer, checkpoints, lambda: watch is not None and watch.has_ended_early)
    for role, name in _FROZEN.items():
        if adapter_digest(base.model, role) != frozen[role]:
            raise ModelError(
                f"the weights of {name} changed while the policy trained: the result is invalid"
            )
    note(progress, "policy", "saving the adapter")
    save_adapter(base.model, "trained", folder.policy_adapter)
    kept = watch.keep_best(folder.policy_adapter) if watch and policy.keep == "best" else None
    detach_adapters(base)
    last = int(trainer.state.global_step)
    return {
        "tasks": len(tasks),
        "too_long": dropped,
        "last_step": last,
        "kept_step": last if kept is None else kept,
        **checks,
    }


def _rows(tasks: Sequence[Task]) -> list[dict[str, Json]]:
    return [
        {
            "prompt": [{"role": "user", "content": task.prompt}],
            "task_id": task.id,
            "source": task.source,
        }
        for task in tasks
    ]


def _curriculum(
    policy: PolicyRecipe, tasks: Sequence[Task], config: Any, seed: int
) -> Curriculum | None:
    if policy.grpo.curriculum == "none":
        return None
    per_draw = config.generation_batch_size // config.num_generations
    return Curriculum({task.id: task.source for task in tasks}, per_draw, seed)


def _watch(
    tasks: Sequence[Task],
    recipe: Recipe,
    folder: RunFolder,
    base: Base,
    sandbox: Sandbox,
    clock: PhaseClock,
) -> HeldOutWatch:
    """Return what measures held-out tasks during training."""
    policy = recipe.policy
    assert policy is not None and policy.measures is not None
    grpo = policy.grpo
    fitting, _ = _fitting(tasks, base, recipe)
    measured = HeldOutTasks(
        tuple(fitting),
        RoleGenerator(base, "trained", grpo.group_size * grpo.prompts_per_step),
        sandbox,
        policy.measures.samples,
        grpo.max_completion_tokens,
        grpo.temperature,
    )

    def save(target: Path) -> None:
        save_adapter(base.model, "trained", target)

    return HeldOutWatch(measured, recipe, folder, save, lambda: clock.lap("held-out tasks"))


def _step_values(
    reward: CompositeReward, watch: HeldOutWatch | None
) -> Callable[[int], dict[str, Json]]:
    return lambda step: {**reward.step_values(step), **(watch.step_values(step) if watch else {})}


def _is_new(checkpoints: Path) -> bool:
    return not any(checkpoints.glob("checkpoint-*"))


def _checks(
    recipe: Recipe,
    base: Base,
    tasks: Sequence[Task],
    sandbox: Sandbox,
    canaries: Canaries | None,
) -> dict[str, Json]:
    """Measure judge and policy before the first step; return both for the summary.

    Raises:
        RunStopped: the judge is not surely better than chance.
    """
    assert recipe.policy is not None
    checks: dict[str, Json] = {}
    if canaries:
        checks["judge_before"] = canaries.measure()
    if recipe.policy.check_tasks:
        ready = measure_readiness(base, tasks, recipe.policy, sandbox, recipe.seed)
        report_readiness(ready)
        checks["policy_before"] = asdict(ready)
    return checks


def _check_roles(base: Base, engine: Engine | None, probe: Sequence[int], has_judge: bool) -> None:
    """Check that rollouts and verdicts come from the adapters that they should come from."""
    model, tokenizer = base.model, base.tokenizer
    sample = engine_sampler(engine, model, probe, "trained") if engine else None
    check_rollout_weights(model, tokenizer, probe, sample)
    if engine and has_judge:
        verdicts = engine_sampler(engine, model, probe, "judge")
        check_answering_weights("judge", model, tokenizer, probe, verdicts)


_FROZEN: dict[Role, str] = {"judge": "the judge", "warm_start": "the KL reference"}
"""Adapters that may be on the base while the policy trains, and must not change."""


def start_adapter(policy: PolicyRecipe, folder: RunFolder) -> Path | None:
    """Return the adapter that training starts from; None for a new one.

    Raises:
        ModelError: it is missing.
    """
    if policy.adapter:
        check_adapter(Path(policy.adapter), "policy.adapter")
        return Path(policy.adapter)
    if policy.warm_start is None:
        return None
    if not (folder.warm_start_adapter / CONFIG_FILE).is_file():
        raise ModelError(
            f"policy.warm_start: there is no adapter in {folder.warm_start_adapter}; run the stage "
            "warm_start first"
        )
    return folder.warm_start_adapter


def rewardable_tasks(tasks: Sequence[Task], policy: PolicyRecipe) -> list[Task]:
    """Return the tasks that the formula can reward: SecCoderX's needs one with a weakness."""
    if policy.reward.formula != "seccoderx":
        return list(tasks)
    rewardable = [task for task in tasks if task.cwe]
    if not rewardable:
        raise DataError(
            f"policy.tasks: no task of {policy.tasks} has a weakness (cwe), and formula: seccoderx "
            "rewards only verdicts on one; use formula: guarded"
        )
    if len(rewardable) < len(tasks):
        logger.info(
            "skipped %d of %d tasks without a weakness (cwe): formula seccoderx cannot reward them",
            len(tasks) - len(rewardable),
            len(tasks),
        )
    return rewardable


def _fitting(tasks: Sequence[Task], base: Base, recipe: Recipe) -> tuple[list[Task], int]:
    assert recipe.policy is not None
    limit = rollout_prompt_limit(
        base.model,
        recipe.model.max_prompt_tokens,
        recipe.policy.grpo.max_completion_tokens,
        "policy.grpo.max_completion_tokens",
    )
    lengths = map(len, prompt_ids(base.tokenizer, [task.prompt for task in tasks]))
    fitting = [task for task, length in zip(tasks, lengths, strict=True) if length <= limit]
    if not fitting:
        raise DataError(
            f"policy.tasks: none of {len(tasks)} prompts fits into {limit} tokens, the least of "
            "model.max_prompt_tokens and what policy.grpo.max_completion_tokens leaves of the "
            "model's context; change one of them"
        )
    return fitting, len(tasks) - len(fitting)


def _canaries(recipe: Recipe, judge: Judge) -> Canaries | None:
    section = recipe.judge and (recipe.judge.align or recipe.judge.cold_start)
    data = recipe.judge.canaries.data if recipe.judge and recipe.judge.canaries.data else None
    source = data or (section.data if section else None)
    if source is None:
        logger.warning(
            "no canaries: set judge.canaries.data to test the judge while the policy trains"
        )
        return None
    return Canaries(judge, recipe, load_labelled(source))
