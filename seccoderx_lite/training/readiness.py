"""A look at the policy before it trains: can it do the tasks at all?

GRPO learns from differences between the completions of a task. Where none works, all rewards of a
group are equal and nothing is learnt.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.numbers import mean
from seccoderx_lite.core.records import Task
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.generation import RoleGenerator
from seccoderx_lite.recipe.recipe import PolicyRecipe
from seccoderx_lite.rewards.answers import parse_answer
from seccoderx_lite.rewards.unit_tests import run_tests
from seccoderx_lite.sandbox import Sandbox

logger = logging.getLogger(__name__)

NEAR_ZERO = 0.05
"""Functional share below which GRPO has almost nothing to learn from."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """One sampled completion per task, before training."""

    tasks: int
    functional: float | None
    """Mean share of functional tests passed; None if no task has tests that could be run."""
    with_code: float | None
    """Share of completions with a closed block of code that parses and is not a stub; None without
    completions, like the next one."""
    truncated: float | None
    """Share of completions that reached the token limit."""
    unscored: int
    """Tasks with tests that could not be run."""


def measure_readiness(
    base: Base, tasks: Sequence[Task], policy: PolicyRecipe, sandbox: Sandbox, seed: int
) -> Readiness:
    """Sample one completion for each of some tasks, as in training, and test it."""
    import torch

    grpo = policy.grpo
    chosen = random.Random(seed).sample(list(tasks), min(policy.check_tasks, len(tasks)))
    generator = RoleGenerator(base, "trained", grpo.group_size * grpo.prompts_per_step)
    with torch.random.fork_rng():  # training draws the same numbers with and without this check
        torch.manual_seed(seed)
        texts = generator.generate(
            [task.prompt for task in chosen],
            max_new_tokens=grpo.max_completion_tokens,
            temperature=grpo.temperature,
        )
    written = [(task, text) for task, text in zip(chosen, texts, strict=True) if text is not None]
    answers = [parse_answer(text, task) for task, text in written]
    results = run_tests(sandbox, [task for task, _ in written], [each.code for each in answers])
    tested = [result for result in results if result is not None]
    full = [
        answer.is_truncated
        or _tokens(base.tokenizer, answer.completion) >= grpo.max_completion_tokens
        for answer in answers
    ]
    return Readiness(
        tasks=len(chosen),
        functional=mean(result.measured_function for result in tested),
        with_code=mean([answer.is_real_code for answer in answers]),
        truncated=mean(full),
        unscored=sum(task.tests is not None for task in chosen) - len(tested),
    )


def _tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def report_readiness(ready: Readiness) -> None:
    """Log what was found, with the way out where almost nothing works."""
    shares = {
        "functional": ready.functional,
        "with code": ready.with_code,
        "cut off at the token limit": ready.truncated,
    }
    known = [f"{value:.1%} {name}" for name, value in shares.items() if value is not None]
    text = (
        f"before training, one completion for each of {ready.tasks} tasks: "
        f"{', '.join([*known, f'{ready.unscored} unscored'])}"
        f"{'' if ready.functional is not None else '; no functional test was run'}"
    )
    logger.info("policy: %s", text)
    if ready.functional is not None and ready.functional < NEAR_ZERO:
        logger.warning(
            "policy: almost no completion works, so the rewards of a group hardly differ and GRPO "
            "learns almost nothing. Add policy.warm_start, use a stronger base or easier tasks%s",
            "; or raise policy.grpo.max_completion_tokens"
            if (ready.truncated or 0.0) > 0.25
            else "",
        )
