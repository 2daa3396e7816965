"""A run: the stages of a recipe in order; finished ones are skipped, an interrupted one resumes."""

import logging
from collections.abc import Sequence
from pathlib import Path

from seccoderx_lite.core.errors import RecipeError, RunInterrupted, SeccoderxError
from seccoderx_lite.core.records import Json
from seccoderx_lite.evaluation.suites.cweval_packages import shown_folders
from seccoderx_lite.models.backends import chosen_backend
from seccoderx_lite.models.distributed import is_first_process, process_group, wait_for_all
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run import stopping
from seccoderx_lite.run.audit_record import audit_line
from seccoderx_lite.run.environment import describe_environment
from seccoderx_lite.run.folder import RunFolder, default_run_folder
from seccoderx_lite.run.open_sandbox import open_sandbox
from seccoderx_lite.run.progress import Progress, default_progress, no_progress, note
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import policy_training, start_checks
from seccoderx_lite.stages.stage_table import Stage, StageRun, planned_stages, stages_of
from seccoderx_lite.stages.stages_to_run import forget_dependents, reopen_unfinished, run_stage
from seccoderx_lite.training.trackers import require_trackers

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    run_folder: Path | str | None = None,
    *,
    stages: Sequence[str] = (),
    fresh: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Run a recipe's stages and return the run folder.

    Finished stages are skipped, and an interrupted one resumes from its last checkpoint; a finished
    training stage goes on from there if the recipe now has more steps. Ctrl-C ends the run at the
    next safe point. Without `progress`, a notebook shows a live display. `stages`
    names the only stages to run; if all of them are finished, they run again, and later stages
    that use their results then count as unfinished. Data, adapters and settings are checked before
    the first stage, so that a fault is reported before hours of training.

    Raises:
        RecipeError: a named stage is not one of the recipe's, or a tracker is not installed.
        RunInterrupted: a signal ended the run; the same call resumes it.
        SeccoderxError: any other error of a stage.
    """
    planned = stages_of(recipe)
    if unknown := [name for name in stages if name not in planned_stages(recipe)]:
        raise RecipeError(
            f"--stage: {unknown[0]} is not a stage of this recipe; "
            f"choose one of {', '.join(planned_stages(recipe))}"
        )
    require_trackers(recipe.report_to)
    target = Path(run_folder) if run_folder else default_run_folder(recipe)
    progress = (progress or default_progress()) if is_first_process() else no_progress
    note(progress, "start", "checking the sandbox")
    with process_group(), stopping.safe_points(), open_sandbox_for(recipe) as sandbox:
        backend, why = chosen_backend(recipe.model)
        logger.info("model.backend: %s (%s)", backend, why)
        environment = {**describe_environment(sandbox), "backend": backend}
        with _run_folder(target, recipe, fresh, environment) as folder:
            run = StageRun(recipe, folder, sandbox, progress)
            chosen = [stage for stage in planned if not stages or stage.name in stages]
            if is_first_process():
                reopen_unfinished(folder, recipe)
            wait_for_all()
            note(progress, "start", "checking data, adapters and settings of all stages")
            again = bool(stages) and all(folder.is_done(stage.name) for stage in chosen)
            wait_for_all()  # no process may run a stage before all have looked
            for stage in chosen:
                if again or not folder.is_done(stage.name):
                    stage.check(recipe)
            if not any(folder.is_done(stage.name) for stage in planned):
                start_checks.check_disk(recipe, folder.path)
                start_checks.warn_of_memory(recipe)
            if recipe.policy and not folder.is_done("policy"):
                if is_first_process():
                    logger.info("%s", audit_line(recipe, folder))
                policy_training.policy_tasks(recipe, folder, sandbox)
            try:
                _run_stages(run, chosen, again)
            finally:
                run.close_engine()
            return folder.path


def _run_stages(run: StageRun, stages: Sequence[Stage], again: bool) -> None:
    """Run stages in order; one that may fail ends the run only after the later ones."""
    failed: list[tuple[Stage, SeccoderxError]] = []
    for stage in stages:
        stopping.check(f"before the stage {stage.name}")
        try:
            if stage.shared or is_first_process():
                run_stage(run, stage, again)
        except SeccoderxError as error:
            if not stage.may_fail or isinstance(error, RunInterrupted):
                raise
            logger.error("%s: failed; the stages after it are still run", stage.name)
            failed.append((stage, error))
    for stage, failure in failed:
        forget_dependents(run.folder, stage)  # made again when it succeeds
        raise failure


def _run_folder(
    target: Path, recipe: Recipe, fresh: bool, environment: dict[str, Json]
) -> RunFolder:
    """Open the folder in the first process; the other processes wait until it exists."""
    if is_first_process():
        folder = RunFolder.open(target, recipe, fresh, environment)
        wait_for_all()
        return folder
    wait_for_all()
    return RunFolder.following(target, recipe)


def open_sandbox_for(recipe: Recipe) -> Sandbox:
    """The recipe's sandbox, with the folders that its suites need to read."""
    suites = recipe.evaluate.suites if recipe.evaluate else ()
    return open_sandbox(recipe.sandbox, shown_folders(suites))
