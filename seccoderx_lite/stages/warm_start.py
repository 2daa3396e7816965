"""Warm start of the policy: supervised training on prompts and fenced solutions, before GRPO.

Only the completion is trained. With `solutions: both`, each pass over the tasks shows every prompt
with its secure and with its insecure solution, so that the policy learns to write working code
without learning which of the two to prefer; benign tasks have their reference twice. With `secure`,
the policy is trained on references alone, for as many steps and about as many tokens.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.loading import training_tasks
from seccoderx_lite.models.adapters import detach_adapters, save_adapter
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.context import within_context
from seccoderx_lite.recipe.recipe import PolicyRecipe, Recipe, WarmStartRecipe
from seccoderx_lite.recipe.section import listed
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress
from seccoderx_lite.training.examples import example
from seccoderx_lite.training.order import Row, in_training_order, short_first
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import sequences_per_step, sft_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_sft_trainer

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe, folder: RunFolder, base: Base, progress: Progress = no_progress
) -> dict[str, Json]:
    """Train a new policy adapter and save it in the run folder; return the summary to record.

    Raises:
        DataError: no task has the solutions to train on, or every example is too long.
    """
    policy = recipe.policy
    assert policy is not None and policy.warm_start is not None
    section = policy.warm_start
    detach_adapters(base)
    tasks = solved_tasks(policy, section)
    limit = within_context(base.model, section.max_tokens)
    rows, dropped = _rows(tasks, section, base.tokenizer, limit)
    checkpoints = folder.checkpoints("warm_start")
    config = sft_config(recipe, section, checkpoints)
    step_size = sequences_per_step(config)
    ordered = in_training_order(rows, section.steps * step_size, recipe.seed)
    ordered = short_first(ordered, step_size)
    recorder = StepRecorder("warm_start", folder, progress, PhaseClock())
    trainer = make_sft_trainer(base, recipe, config, ordered, recorder)
    train(trainer, checkpoints)
    save_adapter(base.model, "trained", folder.warm_start_adapter)
    detach_adapters(base)
    tokens = sum(sum(row["completion_mask"]) for row in ordered)
    return {
        "tasks": len(tasks),
        "examples": len(rows),
        "too_long": dropped,
        "trained_tokens": tokens,
    }


def solved_tasks(policy: PolicyRecipe, section: WarmStartRecipe) -> list[Task]:
    """Return the training tasks of all sources that have the solutions to train on.

    Raises:
        DataError: a source has no training tasks, or none has such solutions.
    """
    data = section.data or policy.tasks
    try:
        tasks = training_tasks(data)
    except DataError as error:
        raise DataError(f"policy.warm_start.data: {error}") from error
    needs_twin = section.solutions == "both"
    solved = [
        task for task in tasks if task.reference and (_twin(task) or not (needs_twin and task.cwe))
    ]
    if not solved or (needs_twin and not any(map(_twin, solved))):
        columns = "`reference` and `insecure`" if needs_twin else "`reference`"
        raise DataError(
            f"policy.warm_start.data: none of the {len(tasks)} training tasks of {listed(data)} "
            f"has code in {columns}; add it"
            + (", or set policy.warm_start.solutions: secure" if needs_twin else "")
        )
    if len(solved) < len(tasks):
        logger.info(
            "policy.warm_start: skipped %d of %d tasks without the solutions to train on",
            len(tasks) - len(solved),
            len(tasks),
        )
    return solved


def _twin(task: Task) -> str | None:
    code = task.extra.get("insecure")
    return code if isinstance(code, str) and code.strip() else None


def solutions(task: Task, section: WarmStartRecipe) -> Iterator[str]:
    """Yield the code of a task that one pass trains on."""
    assert task.reference is not None
    yield task.reference
    if section.solutions == "both":
        yield _twin(task) or task.reference


def fenced(code: str, language: str) -> str:
    return f"```{language}\n{code.strip()}\n```"


def _rows(
    tasks: Sequence[Task], section: WarmStartRecipe, tokenizer: Any, limit: int
) -> tuple[list[Row], int]:
    """Return the examples of one pass, and the number that were too long."""
    rows = [
        {**example(tokenizer, task.prompt, fenced(code, task.language)), "source": task.source}
        for task in tasks
        for code in solutions(task, section)
    ]
    fitting = [row for row in rows if len(row["input_ids"]) <= limit]
    if not fitting:
        raise DataError(
            f"policy.warm_start.max_tokens: none of {len(rows)} examples fits into "
            f"{limit} tokens together with its prompt; raise it, up to the model's context"
        )
    return fitting, len(rows) - len(fitting)
