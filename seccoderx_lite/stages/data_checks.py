"""Load the data of every stage before the first one starts, so that a wrong file is found early."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data.columns import Record
from seccoderx_lite.data.loading import in_split, load_labelled, training_tasks
from seccoderx_lite.evaluation.suites.loading import load_suites
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.rewards.codebleu import require_codebleu
from seccoderx_lite.rewards.terms import loaded_terms
from seccoderx_lite.stages import (
    judge_training,
    policy_training,
    warm_start,
)

logger = logging.getLogger(__name__)


def check_judge_data(recipe: Recipe, stage: Literal["cold_start", "align"]) -> None:
    judge = recipe.judge
    assert judge is not None
    key = f"judge.{stage}.data"
    rows = load_labelled(judge_training.section_of(judge, stage).data)
    _require_split(rows, "train", key)
    if judge.verdict == "cascade" and stage == judge_training.last_stage(judge):
        _require_split(rows, "validation", key)  # calibrates the unsure band


def check_policy_data(recipe: Recipe) -> None:
    judge, policy = recipe.judge, recipe.policy
    assert policy is not None
    try:
        tasks = training_tasks(policy.tasks)
    except DataError as error:
        raise DataError(f"policy.tasks: {error}") from error
    tested = sum(task.tests is not None for task in tasks)
    logger.info(
        "policy.tasks: %d tasks, %d of them (%.0f%%) with tests%s",
        len(tasks),
        tested,
        100 * tested / len(tasks),
        "" if tested == len(tasks) else "; of the others, length and similarity are rewarded",
    )
    if policy.adapter:
        policy_training.require_adapter(Path(policy.adapter))
    if judge and judge.canaries.data:
        load_labelled(judge.canaries.data)
    loaded_terms(policy.reward.terms)
    if policy.reward.formula == "seccoderx":
        require_codebleu()


def check_warm_start_data(recipe: Recipe) -> None:
    assert recipe.policy is not None and recipe.policy.warm_start is not None
    warm_start.solved_tasks(recipe.policy, recipe.policy.warm_start)


def _require_split(records: Sequence[Record], split: str, key: str) -> None:
    try:
        in_split(records, split)
    except DataError as error:
        raise DataError(f"{key}: {error}") from error


def check_suites(recipe: Recipe) -> None:
    assert recipe.evaluate is not None
    load_suites(recipe.evaluate)
