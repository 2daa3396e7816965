"""What can be known before training is checked before training: one function per stage.

Each is called at the start of a run for a stage that is not finished, so that a wrong value is
reported in seconds instead of after hours, and before the run has claimed its folder.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from seccoderx_lite.core.errors import DataError, ModelError
from seccoderx_lite.data.columns import Record
from seccoderx_lite.data.loading import in_split, load_labelled, training_tasks
from seccoderx_lite.evaluation.suites.loading import load_suites
from seccoderx_lite.models.adapters import check_adapter_fits
from seccoderx_lite.models.estimate import CPU, shapes_of
from seccoderx_lite.models.gguf import find_tools
from seccoderx_lite.models.memory_fit import MemoryFit, fit_message, memory_fit
from seccoderx_lite.models.resources import disk
from seccoderx_lite.recipe.recipe import JudgeRecipe, PolicyRecipe, Recipe
from seccoderx_lite.rewards.codebleu import require_codebleu
from seccoderx_lite.rewards.terms import loaded_terms
from seccoderx_lite.run.environment import describe_gpu, main_memory_bytes
from seccoderx_lite.stages import warm_start
from seccoderx_lite.training.setting_checks import TrainedSection, check_trainer
from seccoderx_lite.training.settings import grpo_config, sft_config

logger = logging.getLogger(__name__)

_SPARE_BYTES = 1 << 28
"""For logs, answers and the report."""


def check_judge(recipe: Recipe, stage: Literal["cold_start", "align"]) -> None:
    """Check data and settings of a stage that trains the judge."""
    judge = recipe.judge
    assert judge is not None
    section = judge.align if stage == "align" else judge.cold_start
    assert section is not None
    _check_settings(recipe, f"judge.{stage}", section)
    key = f"judge.{stage}.data"
    rows = load_labelled(section.data)
    _require_split(rows, "train", key)
    if judge.verdict == "cascade" and not (stage == "cold_start" and judge.align):
        _require_split(rows, "validation", key)  # calibrates the unsure band


def check_warm_start(recipe: Recipe) -> None:
    assert recipe.policy is not None and recipe.policy.warm_start is not None
    _check_settings(recipe, "policy.warm_start", recipe.policy.warm_start)
    warm_start.solved_tasks(recipe.policy, recipe.policy.warm_start)


def check_policy(recipe: Recipe) -> None:
    """Check data, adapters, settings and packages of the policy's training."""
    judge, policy = recipe.judge, recipe.policy
    assert policy is not None
    _check_settings(recipe, "policy.grpo", policy.grpo)
    if policy.adapter:
        check_adapter_fits(Path(policy.adapter), recipe.model.base, "policy.adapter")
    _check_judge_adapter(judge, recipe)
    _check_tasks(policy)
    loaded_terms(policy.reward.terms)
    if judge and judge.canaries.data:
        load_labelled(judge.canaries.data)
    if policy.reward.formula == "seccoderx":
        require_codebleu()


def _check_tasks(policy: PolicyRecipe) -> None:
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


def check_evaluation(recipe: Recipe) -> None:
    settings = recipe.evaluate
    assert settings is not None
    load_suites(settings)
    if settings.adapter and not settings.endpoint:
        check_adapter_fits(Path(settings.adapter), recipe.model.base, "evaluate.adapter")


def check_export(recipe: Recipe) -> None:
    """Check that the judge to compare with is sound and that llama.cpp's programs are installed."""
    assert recipe.export is not None
    _check_judge_adapter(recipe.judge, recipe)
    find_tools(recipe.export.formats, recipe.export.llama_cpp)


def check_disk(recipe: Recipe, folder: Path) -> None:
    """Check that a new run has room for its checkpoints and exports.

    Raises:
        ModelError: it has not.
    """
    try:
        parts = [part for part in disk(recipe, shapes_of(recipe)) if part.name != "download"]
    except ModelError:  # a base whose size is not known
        return
    needed = sum(part.bytes for part in parts) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        shown = ", ".join(f"{part.name} {part.bytes / 2**30:.1f}" for part in parts)
        raise ModelError(
            f"{folder}: the run needs up to {needed / 2**30:.1f} GiB ({shown}), and the disk has "
            f"{free / 2**30:.1f} free; free some, or choose another --run-folder"
        )


def memory_fit_here(recipe: Recipe) -> MemoryFit:
    """Return whether a recipe fits into the memory of this machine's GPU, else of the machine.

    Raises:
        ModelError: the base's size is not known.
    """
    shapes, gpu = shapes_of(recipe), describe_gpu()
    if gpu:
        return memory_fit(recipe, shapes, gpu.memory_bytes)
    return memory_fit(recipe, shapes, main_memory_bytes(), CPU)


def warn_of_memory(recipe: Recipe) -> None:
    """Log a warning if a new run may need more memory than there is.

    It is no error, since texts are seldom as long as they may be.
    """
    try:
        fit = memory_fit_here(recipe)
    except ModelError:  # a base whose size is not known
        return
    if not fit.fits:
        logger.warning("with the longest texts the recipe %s", fit_message(fit))


def _check_judge_adapter(judge: JudgeRecipe | None, recipe: Recipe) -> None:
    if judge and judge.adapter:
        check_adapter_fits(Path(judge.adapter), judge.base or recipe.model.base, "judge.adapter")


def _check_settings(recipe: Recipe, key: str, section: TrainedSection) -> None:
    with TemporaryDirectory() as folder:  # some settings write into their folder
        place = Path(folder) / "checkpoints"
        make = grpo_config if hasattr(section, "group_size") else sft_config
        check_trainer(key, section, lambda: make(recipe, section, place))  # type: ignore[arg-type]


def _require_split(records: Sequence[Record], split: str, key: str) -> None:
    try:
        in_split(records, split)
    except DataError as error:
        raise DataError(f"{key}: {error}") from error
