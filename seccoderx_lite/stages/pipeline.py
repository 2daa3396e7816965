"""A run: the stages of a recipe in order; finished ones are skipped, an interrupted one resumes."""

import functools
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seccoderx_lite.core.errors import DataError, RecipeError
from seccoderx_lite.core.records import Json
from seccoderx_lite.core.scores import PHASES
from seccoderx_lite.data.columns import Record
from seccoderx_lite.data.loading import in_split, load_labelled, training_tasks
from seccoderx_lite.evaluation.suites.cweval_packages import shown_folders
from seccoderx_lite.evaluation.suites.loading import load_suites
from seccoderx_lite.models.backends import chosen_backend
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.models.distributed import is_first_process, wait_for_all
from seccoderx_lite.recipe.reading import value_at
from seccoderx_lite.recipe.recipe import Recipe, check_recipe
from seccoderx_lite.rewards.codebleu import require_codebleu
from seccoderx_lite.rewards.terms import loaded_terms
from seccoderx_lite.run import stopping
from seccoderx_lite.run.environment import describe_environment
from seccoderx_lite.run.folder import STEP_FILES, RunFolder, default_run_folder
from seccoderx_lite.run.open_sandbox import open_sandbox
from seccoderx_lite.run.progress import Progress, default_progress, no_progress, note
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import (
    evaluation,
    export,
    judge_training,
    policy_training,
    report,
    warm_start,
)
from seccoderx_lite.training.trackers import require_trackers

logger = logging.getLogger(__name__)


@dataclass
class _Run:
    """What the stages of one run have in common."""

    recipe: Recipe
    folder: RunFolder
    sandbox: Sandbox
    progress: Progress
    stage: str = ""
    """Name of the stage that is running."""

    @functools.cached_property
    def base(self) -> Base:
        """The shared base model, loaded when a stage first needs it."""
        note(self.progress, self.stage, f"loading {self.recipe.model.base}")
        return load_base(self.recipe.model)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run."""

    name: str
    section: str | None
    """Key of the recipe's section that asks for the stage; None for a stage of every run."""
    run: Callable[[_Run], dict[str, Json]]
    """Does the work and returns the summary to record."""
    check_data: Callable[[Recipe], None] = lambda recipe: None
    """Loads the stage's data once, so that a wrong file is reported before training starts."""
    shared: bool = False
    """All processes of a run work on it together; otherwise the first one does it alone."""
    leaves: str | None = None
    """File or folder, relative to the run folder, with its results and its checkpoints."""
    rests_on: tuple[str, ...] = ()
    """Stages whose results it uses; it has to run again when one of them has."""
    steps: str | None = None
    """Key of its number of steps; with a higher number a finished stage goes on."""


def _check_judge_data(recipe: Recipe, stage: Literal["cold_start", "align"]) -> None:
    judge = recipe.judge
    assert judge is not None
    key = f"judge.{stage}.data"
    rows = load_labelled(judge_training.section_of(judge, stage).data)
    _require_split(rows, "train", key)
    if judge.verdict == "cascade" and stage == judge_training.last_stage(judge):
        _require_split(rows, "validation", key)  # calibrates the unsure band


def _check_policy_data(recipe: Recipe) -> None:
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


def _check_warm_start_data(recipe: Recipe) -> None:
    assert recipe.policy is not None and recipe.policy.warm_start is not None
    warm_start.solved_tasks(recipe.policy, recipe.policy.warm_start)


def _require_split(records: Sequence[Record], split: str, key: str) -> None:
    try:
        in_split(records, split)
    except DataError as error:
        raise DataError(f"{key}: {error}") from error


def _check_suites(recipe: Recipe) -> None:
    assert recipe.evaluate is not None
    load_suites(recipe.evaluate)


def _evaluate(run: _Run) -> dict[str, Json]:
    settings = run.recipe.evaluate
    base = None if settings and settings.endpoint else run.base
    result = evaluation.run(run.recipe, run.folder, base, run.sandbox, run.progress)
    scores: dict[str, Json] = {
        phase: {name: scores.esr for name, scores in result.phase(phase).items()}
        for phase in PHASES
        if phase != "warm_start" or result.warm_start
    }
    return {**scores, "unanswered": result.unanswered}


def _report(run: _Run) -> dict[str, Json]:
    note(run.progress, "report", "writing report.html")
    return {"file": str(report.run(run.folder))}


STAGES = (
    Stage(
        "cold_start",
        "judge.cold_start",
        lambda run: judge_training.cold_start(run.recipe, run.folder, run.base, run.progress),
        check_data=lambda recipe: _check_judge_data(recipe, "cold_start"),
        shared=True,
        leaves="judge/cold_start",
        steps="judge.cold_start.steps",
    ),
    Stage(
        "align",
        "judge.align",
        lambda run: judge_training.align(run.recipe, run.folder, run.base, run.progress),
        check_data=lambda recipe: _check_judge_data(recipe, "align"),
        shared=True,
        leaves="judge/align",
        rests_on=("cold_start",),
        steps="judge.align.steps",
    ),
    Stage(
        "warm_start",
        "policy.warm_start",
        lambda run: warm_start.run(run.recipe, run.folder, run.base, run.progress),
        check_data=_check_warm_start_data,
        shared=True,
        leaves="warm_start",
        steps="policy.warm_start.steps",
    ),
    Stage(
        "policy",
        "policy",
        lambda run: policy_training.run(
            run.recipe, run.folder, run.base, run.sandbox, run.progress
        ),
        check_data=_check_policy_data,
        shared=True,
        leaves="policy",
        rests_on=("cold_start", "align", "warm_start"),
        steps="policy.grpo.steps",
    ),
    Stage(
        "evaluate",
        "evaluate",
        _evaluate,
        check_data=_check_suites,
        leaves="answers.jsonl",
        rests_on=("cold_start", "align", "warm_start", "policy"),
    ),
    Stage(
        "export",
        "export",
        lambda run: export.run(run.recipe, run.folder, run.base, run.sandbox, run.progress),
        leaves="export",
        rests_on=("cold_start", "align", "warm_start", "policy"),
    ),
    Stage(
        "report",
        None,
        lambda run: _report(run),
        rests_on=("cold_start", "align", "warm_start", "policy", "evaluate", "export"),
    ),
)
"""All stages, in the order in which they run."""


def planned_stages(recipe: Recipe) -> list[str]:
    """Return the names of the stages a recipe asks for, in order."""
    return [stage.name for stage in _planned(recipe)]


def _planned(recipe: Recipe) -> list[Stage]:
    sections = recipe.model_dump()
    return [
        stage
        for stage in STAGES
        if stage.section is None or value_at(sections, stage.section) is not None
    ]


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
    names the only stages to run, even if they are finished; later stages that use their results
    then count as unfinished. All data is loaded once before the first stage, so that a wrong file
    is reported before hours of training.

    Raises:
        RecipeError: a named stage is not one of the recipe's, or a tracker is not installed.
        RunInterrupted: a signal ended the run; the same call resumes it.
        SeccoderxError: any other error of a stage.
    """
    planned = _planned(recipe)
    if unknown := [name for name in stages if name not in planned_stages(recipe)]:
        raise RecipeError(
            f"--stage: {unknown[0]} is not a stage of this recipe; "
            f"its stages are {', '.join(planned_stages(recipe))}"
        )
    require_trackers(recipe.report_to)
    target = Path(run_folder) if run_folder else default_run_folder(recipe)
    progress = (progress or default_progress()) if is_first_process() else no_progress
    note(progress, "start", "checking the sandbox")
    with stopping.safe_points(), _open_sandbox(recipe) as sandbox:
        backend, why = chosen_backend(recipe.model)
        logger.info("model.backend: %s (%s)", backend, why)
        environment = {**describe_environment(sandbox), "backend": backend}
        with _run_folder(target, recipe, fresh, environment) as folder:
            run = _Run(recipe, folder, sandbox, progress)
            chosen = [stage for stage in planned if not stages or stage.name in stages]
            if is_first_process():
                _reopen_unfinished(folder, recipe)
            wait_for_all()
            note(progress, "start", "reading the data of all stages")
            for stage in chosen:
                if stages or not folder.is_done(stage.name):
                    stage.check_data(recipe)
            if recipe.policy and not folder.is_done("policy"):
                policy_training.policy_tasks(recipe, folder, sandbox)
            for stage in chosen:
                stopping.check(f"before the stage {stage.name}")
                if stage.shared or is_first_process():
                    _run_stage(run, stage, again=bool(stages))
            return folder.path


def _reopen_unfinished(folder: RunFolder, recipe: Recipe) -> None:
    """Count finished stages as unfinished if they have more to do.

    That is, if the recipe now has more steps for them, or requests of theirs got no answer.
    """
    for stage in _planned(recipe):
        if not folder.is_done(stage.name):
            continue
        if missing := folder.read_summary(stage.name).get("unanswered"):
            logger.info("%s: asks again for %d answers that failed", stage.name, missing)
            _forget_dependents(folder, stage)
            folder.forget(stage.name)
        if stage.steps is None or not folder.is_done(stage.name):
            continue
        steps = value_at(recipe.model_dump(), stage.steps)
        done = folder.read_summary(stage.name).get("steps", steps)
        if done < steps:
            logger.info("%s: has %d steps, goes on to %d", stage.name, done, steps)
            _forget_dependents(folder, stage)
            folder.forget(stage.name)


def _forget_dependents(folder: RunFolder, stage: Stage) -> None:
    """Count as unfinished, and delete what they would resume from, all that use its results."""
    for other in STAGES:
        if stage.name in other.rests_on:
            folder.forget(other.name)
            _delete_progress(folder, other)


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


def _run_stage(run: _Run, stage: Stage, again: bool) -> None:
    """Run a stage unless it is finished; the processes of a shared one start and end together."""
    meet = wait_for_all if stage.shared else lambda: None
    if again and is_first_process():
        _forget_dependents(run.folder, stage)
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


def _open_sandbox(recipe: Recipe) -> Sandbox:
    """The recipe's sandbox, with the folders that its suites need to read."""
    suites = recipe.evaluate.suites if recipe.evaluate else ()
    return open_sandbox(recipe.sandbox, shown_folders(suites))


@contextmanager
def _reopened(run_folder: Path | str) -> Iterator[tuple[Recipe, RunFolder, Sandbox]]:
    """Open a finished run with its stored recipe, to add results to it."""
    recipe = RunFolder.existing(run_folder).recipe
    with _open_sandbox(recipe) as sandbox, RunFolder.open(run_folder, recipe) as folder:
        yield recipe, folder, sandbox


def grade_again(run_folder: Path | str, progress: Progress | None = None) -> Path:
    """Grade a run's stored answers again, rewrite its evaluation and report, return its folder.

    Raises:
        DataError: the run has no answers.
    """
    progress = progress or default_progress()
    with stopping.safe_points(), _reopened(run_folder) as (recipe, folder, sandbox):
        evaluation.grade_again(recipe, folder, sandbox, progress)
        report.run(folder)
        return folder.path


def export_again(
    run_folder: Path | str,
    formats: Sequence[str],
    *,
    role: str = "policy",
    to: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Export a run's policy or judge in other formats; return the folder of each format.

    Raises:
        RecipeError: a format or the role is unknown, or `to` already has a format's folder.
        RunStopped: an export differs too much from the trained adapter.
    """
    if role not in ("policy", "judge"):
        raise RecipeError(f"--role: must be policy or judge (got {role!r})")
    with _reopened(run_folder) as (recipe, folder, sandbox):
        document = recipe.model_dump(mode="json")
        document["export"] = {**(document["export"] or {}), "formats": list(formats)}
        changed = check_recipe(document, "export")
        if to and (existing := [form for form in formats if (Path(to) / form).exists()]):
            raise RecipeError(
                f"--output: {Path(to) / existing[0]} already exists; choose another folder"
            )
        target = Path(to) if to else folder.export / ("judge" if role == "judge" else "")
        base = recipe.judge.base if role == "judge" and recipe.judge else None
        progress = progress or default_progress()
        note(progress, "export", f"loading {base or recipe.model.base}")
        # Exporting needs no training backend, and unsloth would have to be imported first.
        model = recipe.model.model_copy(
            update={"backend": "transformers", **({"base": base} if base else {})}
        )
        export.run(
            changed,
            folder,
            load_base(model),
            sandbox,
            progress,
            role="judge" if role == "judge" else "policy",
            target=target,
        )
        return {form: target / form for form in formats}
