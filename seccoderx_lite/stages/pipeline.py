"""A run: the stages of a recipe in order, each finished one skipped, an interrupted one resumed."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import DataError, RecipeError
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.columns import Record
from seccoderx_lite.data.loading import in_split, load_labelled, load_tasks
from seccoderx_lite.evaluation.suites.loading import load_suites
from seccoderx_lite.models.backends import chosen_backend
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.models.distributed import is_first_process, wait_for_all
from seccoderx_lite.recipe.recipe import Recipe, check_recipe
from seccoderx_lite.rewards.codebleu import require_codebleu
from seccoderx_lite.run.environment import describe_environment
from seccoderx_lite.run.folder import RunFolder, default_run_folder
from seccoderx_lite.run.open_sandbox import open_sandbox
from seccoderx_lite.run.progress import Progress, no_progress
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import evaluation, export, judge_training, policy_training, report
from seccoderx_lite.training.trackers import require_trackers

logger = logging.getLogger(__name__)

SHARED_STAGES = ("cold_start", "align", "policy")
"""Stages that several processes work on together; the first one does the others alone."""
STAGES = ("cold_start", "align", "policy", "evaluate", "export", "report")
_RESTS_ON = {
    "cold_start": STAGES[1:],
    "align": STAGES[2:],
    "policy": STAGES[3:],
    "evaluate": ("report",),
    "export": ("report",),
}
"""Stages whose results are void when a stage has run again."""


@dataclass
class _Run:
    """What the stages of one run share; the base is loaded when a stage first needs it."""

    recipe: Recipe
    folder: RunFolder
    sandbox: Sandbox
    progress: Progress
    _base: Base | None = field(default=None, init=False)

    @property
    def base(self) -> Base:
        """The shared base model."""
        if self._base is None:
            self._base = load_base(self.recipe.model)
        return self._base


def planned_stages(recipe: Recipe) -> list[str]:
    """Return the stages a recipe asks for, in order."""
    wanted = {
        "cold_start": recipe.judge is not None and recipe.judge.cold_start is not None,
        "align": recipe.judge is not None and recipe.judge.align is not None,
        "policy": recipe.policy is not None,
        "evaluate": recipe.evaluate is not None,
        "export": recipe.export is not None,
        "report": True,
    }
    return [stage for stage in STAGES if wanted[stage]]


def train(
    recipe: Recipe,
    run_folder: Path | str | None = None,
    *,
    stages: Sequence[str] = (),
    fresh: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Run a recipe's stages and return the run folder.

    Finished stages are skipped and an interrupted one goes on from its last checkpoint. Naming
    stages runs those alone, again if they were finished; later stages that rest on one of them then
    count as unfinished. All data is read once before the first stage, so that a wrong file is named
    before hours of work.

    Raises:
        RecipeError: a named stage is not one of the recipe's, or a tracker is not installed.
        SeccoderxError: whatever a stage raises.
    """
    planned = planned_stages(recipe)
    if unknown := [stage for stage in stages if stage not in planned]:
        raise RecipeError(
            f"--stage: {unknown[0]} is not a stage of this recipe; "
            f"its stages are {', '.join(planned)}"
        )
    require_trackers(recipe.report_to)
    target = Path(run_folder) if run_folder else default_run_folder(recipe)
    progress = progress if is_first_process() else no_progress
    with open_sandbox(recipe.sandbox) as sandbox:
        backend, why = chosen_backend(recipe.model)
        logger.info("model.backend %s (%s)", backend, why)
        environment = {**describe_environment(sandbox), "backend": backend}
        with _run_folder(target, recipe, fresh, environment) as folder:
            run = _Run(recipe, folder, sandbox, progress)
            chosen = [stage for stage in planned if not stages or stage in stages]
            _read_inputs(recipe, [s for s in chosen if stages or not folder.is_done(s)])
            for stage in chosen:
                if stage in SHARED_STAGES or is_first_process():
                    _run_stage(run, stage, again=bool(stages))
            return folder.path


def _read_inputs(recipe: Recipe, stages: Sequence[str]) -> None:
    """Read the data of all these stages, and let go of it again."""
    judge, policy = recipe.judge, recipe.policy
    for stage in ("cold_start", "align"):
        section = getattr(judge, stage, None)
        if section and stage in stages:
            rows, key = load_labelled(section.data), f"judge.{stage}.data"
            _require_split(rows, "train", key)
            if judge and judge.verdict == "cascade" and section is (judge.align or section):
                _require_split(rows, "validation", key)  # calibrates the unsure band
    if policy and "policy" in stages:
        _require_split(load_tasks(policy.tasks), "train", "policy.tasks")
        if judge and judge.canaries.data:
            load_labelled(judge.canaries.data)
        if policy.reward.formula == "seccoderx":
            require_codebleu()
    if recipe.evaluate and "evaluate" in stages:
        load_suites(recipe.evaluate)


def _require_split(records: Sequence[Record], split: str, key: str) -> None:
    try:
        in_split(records, split)
    except DataError as error:
        raise DataError(f"{key}: {error}") from error


def _run_folder(
    target: Path, recipe: Recipe, fresh: bool, environment: dict[str, Json]
) -> RunFolder:
    """Open the folder in the first process; the others follow when it is there."""
    if is_first_process():
        folder = RunFolder.open(target, recipe, fresh, environment)
        wait_for_all()
        return folder
    wait_for_all()
    return RunFolder.following(target, recipe)


def _run_stage(run: _Run, stage: str, again: bool) -> None:
    """Run a stage unless it is done; processes that share it begin and end it together."""
    together = wait_for_all if stage in SHARED_STAGES else lambda: None
    if again and is_first_process():
        for void in _RESTS_ON.get(stage, ()):
            run.folder.forget(void)
            _drop_progress(run.folder, void)
        run.folder.forget(stage)
        _drop_results(run.folder, stage)
    together()
    is_done = run.folder.is_done(stage)
    together()
    if not is_done:
        run.folder.mark_done(stage, _RUN_STAGE[stage](run))
    together()
    run.progress(stage, 1, 1, {"done": True, **run.folder.read_summary(stage)})


def _cold_start(run: _Run) -> dict[str, Json]:
    summary = judge_training.cold_start(run.recipe, run.folder, run.base, run.progress)
    if run.recipe.judge and run.recipe.judge.align is None:
        return summary | _finish_judge(run, "cold_start")
    return summary


def _align(run: _Run) -> dict[str, Json]:
    summary = judge_training.align(run.recipe, run.folder, run.base, run.progress)
    return summary | _finish_judge(run, "align")


def _finish_judge(run: _Run, stage: str) -> dict[str, Json]:
    """Calibrate and measure the trained judge, then put its adapter in its place."""
    judge = run.recipe.judge
    assert judge is not None
    section = judge.align or judge.cold_start
    assert section is not None
    if not is_first_process():
        return {}
    summary = judge_training.finish(run.recipe, run.folder, run.base, stage, section.data)
    copy = run.folder.judge_adapter.with_name(".adapter")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(
        run.folder.path / "judge" / stage, copy, ignore=shutil.ignore_patterns("checkpoints")
    )
    shutil.rmtree(run.folder.judge_adapter, ignore_errors=True)
    os.replace(copy, run.folder.judge_adapter)
    return summary


def _policy(run: _Run) -> dict[str, Json]:
    return policy_training.run(run.recipe, run.folder, run.base, run.sandbox, run.progress)


def _drop_results(folder: RunFolder, stage: str) -> None:
    """Remove what a stage that is to run again has left."""
    places = {
        "cold_start": ["judge/cold_start"],
        "align": ["judge/align"],
        "policy": ["policy"],
        "export": ["export"],
    }
    for place in places.get(stage, []):
        shutil.rmtree(folder.path / place, ignore_errors=True)
    _drop_progress(folder, stage)


def _drop_progress(folder: RunFolder, stage: str) -> None:
    """Remove what a stage would go on from, so that it starts anew; its results stay until then."""
    for place in ("judge/cold_start", "judge/align", "policy"):
        if place.endswith(stage):
            shutil.rmtree(folder.checkpoints(place), ignore_errors=True)
    if stage == "evaluate":
        folder.truncate_jsonl("answers.jsonl", lambda row: False)
    for name in ("metrics.jsonl", "completions.jsonl"):
        folder.truncate_jsonl(name, lambda row: row.get("stage") != stage)


def _evaluate(run: _Run) -> dict[str, Json]:
    settings = run.recipe.evaluate
    base = None if settings and settings.endpoint else run.base
    result = evaluation.run(run.recipe, run.folder, base, run.sandbox, run.progress)
    return {
        phase: {suite: scores["esr"] for suite, scores in result.get(phase, {}).items()}
        for phase in ("before", "after")
    }


def _export(run: _Run) -> dict[str, Json]:
    return export.run(run.recipe, run.folder, run.base, run.sandbox, run.progress)


def _report(run: _Run) -> dict[str, Any]:
    return {"file": str(report.run(run.folder))}


_RUN_STAGE: dict[str, Callable[[_Run], dict[str, Json]]] = {
    "cold_start": _cold_start,
    "align": _align,
    "policy": _policy,
    "evaluate": _evaluate,
    "export": _export,
    "report": _report,
}


def grade_again(run_folder: Path | str, progress: Progress = no_progress) -> Path:
    """Grade the stored answers of a run anew, write its evaluation and report, return its folder.

    Raises:
        DataError: the run has no answers.
    """
    recipe = RunFolder.existing(run_folder).recipe
    with open_sandbox(recipe.sandbox) as sandbox, RunFolder.open(run_folder, recipe) as folder:
        evaluation.grade_again(recipe, folder, sandbox, progress)
        report.run(folder)
        return folder.path


def export_again(
    run_folder: Path | str,
    formats: Sequence[str],
    *,
    role: str = "policy",
    to: Path | str | None = None,
) -> dict[str, Path]:
    """Export the policy or the judge of a run in the formats asked for; return where each is.

    Raises:
        RecipeError: a format or the role is unknown.
        RunStopped: an export strays from the live adapter.
    """
    if role not in ("policy", "judge"):
        raise RecipeError(f"--role: must be policy or judge (got {role!r})")
    recipe = RunFolder.existing(run_folder).recipe
    document = recipe.model_dump(mode="json")
    document["export"] = {**(document["export"] or {}), "formats": list(formats)}
    changed = check_recipe(document, "export")
    with open_sandbox(recipe.sandbox) as sandbox, RunFolder.open(run_folder, recipe) as folder:
        if to and (there := [form for form in formats if (Path(to) / form).exists()]):
            raise RecipeError(
                f"--to: {Path(to) / there[0]} is there already; choose another folder"
            )
        places = {"policy": folder.export, "judge": folder.export / "judge"}
        target = Path(to) if to else places[role]
        base = recipe.judge.base if role == "judge" and recipe.judge else None
        # Nothing is trained here, so no backend has to come before the imports above.
        model = recipe.model.model_copy(
            update={"backend": "transformers", **({"base": base} if base else {})}
        )
        export.run(
            changed,
            folder,
            load_base(model),
            sandbox,
            role="judge" if role == "judge" else "policy",
            target=target,
        )
        return {form: target / form for form in formats}
