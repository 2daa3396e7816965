"""Resuming: which stages of a run still have to run, and what they keep of an earlier attempt.

A finished stage is skipped. An unfinished one resumes from its newest checkpoint, see
`training.resuming`.
"""

import logging
import shutil

from seccoderx_lite.models.distributed import is_first_process, wait_for_all
from seccoderx_lite.recipe.reading import value_at
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.folder import STEP_FILES, RunFolder
from seccoderx_lite.run.progress import note
from seccoderx_lite.stages.stage_table import STAGES, Stage, StageRun, stages_of

logger = logging.getLogger(__name__)


def reopen_unfinished(folder: RunFolder, recipe: Recipe) -> None:
    """Count finished stages as unfinished if they have more to do.

    That is, if the recipe now has more steps for them, or requests of theirs got no answer.
    """
    for stage in stages_of(recipe):
        if not folder.is_done(stage.name):
            continue
        if missing := folder.read_summary(stage.name).get("unanswered"):
            logger.info("%s: asks again for %d answers that failed", stage.name, missing)
            forget_dependents(folder, stage)
            folder.forget(stage.name)
        if stage.steps is None or not folder.is_done(stage.name):
            continue
        steps = value_at(recipe.model_dump(), stage.steps)
        done = folder.read_summary(stage.name).get("steps", steps)
        if done < steps:
            logger.info("%s: has %d steps, goes on to %d", stage.name, done, steps)
            forget_dependents(folder, stage)
            folder.forget(stage.name)


def forget_dependents(folder: RunFolder, stage: Stage) -> None:
    """Count as unfinished, and delete what they would resume from, all that use its results."""
    for other in STAGES:
        if stage.name in other.rests_on:
            folder.forget(other.name)
            _delete_progress(folder, other)


def run_stage(run: StageRun, stage: Stage, again: bool) -> None:
    """Run a stage unless it is finished; the processes of a shared one start and end together."""
    meet = wait_for_all if stage.shared else lambda: None
    if again and is_first_process():
        forget_dependents(run.folder, stage)
        run.folder.forget(stage.name)
        _delete_progress(run.folder, stage)
        if stage.leaves:
            shutil.rmtree(run.folder.path / stage.leaves, ignore_errors=True)
    meet()
    is_done = run.folder.is_done(stage.name)
    meet()  # no process may record the stage before all have looked
    if not is_done:
        run.stage = stage.name
        note(run.progress, stage.name, "starting")
        summary = stage.run(run)
        if stage.name != "policy":  # whose engine the evaluation goes on with
            run.close_engine()
        if stage.steps:
            summary = {**summary, "steps": value_at(run.recipe.model_dump(), stage.steps)}
        run.folder.mark_done(stage.name, summary)
    meet()
    run.progress(stage.name, 1, 1, {"done": True, **run.folder.read_summary(stage.name)})


def _delete_progress(folder: RunFolder, stage: Stage) -> None:
    """Delete what a stage would resume from and its records; its results stay until it runs."""
    if stage.leaves and stage.leaves.endswith(".jsonl"):
        folder.truncate_jsonl(stage.leaves, lambda row: False)
    elif stage.leaves:
        shutil.rmtree(folder.checkpoints(stage.leaves), ignore_errors=True)
    for name in STEP_FILES:
        folder.truncate_jsonl(name, lambda row: row.get("stage") != stage.name)
