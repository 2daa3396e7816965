"""The stages of a run, in their order: what each one needs, does and leaves."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from seccoderx_lite.core.records import Json
from seccoderx_lite.core.scores import PHASES
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.models.engine import close_engine
from seccoderx_lite.recipe.reading import value_at
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, note
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import (
    evaluation,
    export,
    judge_training,
    policy_training,
    report,
    start_checks,
    warm_start,
)


@dataclass
class StageRun:
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

    def close_engine(self) -> None:
        """End the vLLM engine of the base, if there is one."""
        close_engine(self.__dict__.get("base"))


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run."""

    name: str
    section: str | None
    """Key of the recipe's section that asks for the stage; None for a stage of every run."""
    run: Callable[[StageRun], dict[str, Json]]
    """Does the work and returns the summary to record."""
    check: Callable[[Recipe], None] = lambda recipe: None
    """Finds out before training starts what would fail later; see `start_checks`."""
    shared: bool = False
    """All processes of a run work on it together; otherwise the first one does it alone."""
    leaves: str | None = None
    """File or folder, relative to the run folder, with its results and its checkpoints."""
    rests_on: tuple[str, ...] = ()
    """Stages whose results it uses; it has to run again when one of them has."""
    steps: str | None = None
    """Key of its number of steps; with a higher number a finished stage goes on."""
    may_fail: bool = False
    """Whether the stages after it are worth running when it fails; the run fails after them."""


def _evaluate(run: StageRun) -> dict[str, Json]:
    settings = run.recipe.evaluate
    base = None if settings and settings.endpoint else run.base
    result = evaluation.run(run.recipe, run.folder, base, run.sandbox, run.progress)
    scores: dict[str, Json] = {
        phase: {name: scores.esr for name, scores in result.phase(phase).items()}
        for phase in PHASES
        if phase != "warm_start" or result.warm_start
    }
    return {**scores, "unanswered": result.unanswered}


def _report(run: StageRun) -> dict[str, Json]:
    note(run.progress, "report", "writing report.html")
    return {"file": str(report.run(run.folder))}


STAGES = (
    Stage(
        "cold_start",
        "judge.cold_start",
        lambda run: judge_training.cold_start(run.recipe, run.folder, run.base, run.progress),
        check=lambda recipe: start_checks.check_judge(recipe, "cold_start"),
        shared=True,
        leaves="judge/cold_start",
        steps="judge.cold_start.steps",
    ),
    Stage(
        "align",
        "judge.align",
        lambda run: judge_training.align(run.recipe, run.folder, run.base, run.progress),
        check=lambda recipe: start_checks.check_judge(recipe, "align"),
        shared=True,
        leaves="judge/align",
        rests_on=("cold_start",),
        steps="judge.align.steps",
    ),
    Stage(
        "warm_start",
        "policy.warm_start",
        lambda run: warm_start.run(run.recipe, run.folder, run.base, run.progress),
        check=start_checks.check_warm_start,
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
        check=start_checks.check_policy,
        shared=True,
        leaves="policy",
        rests_on=("cold_start", "align", "warm_start"),
        steps="policy.grpo.steps",
    ),
    Stage(
        "evaluate",
        "evaluate",
        _evaluate,
        check=start_checks.check_evaluation,
        leaves="answers.jsonl",
        rests_on=("cold_start", "align", "warm_start", "policy"),
    ),
    Stage(
        "export",
        "export",
        lambda run: export.run(run.recipe, run.folder, run.base, run.sandbox, run.progress),
        check=start_checks.check_export,
        leaves="export",
        rests_on=("cold_start", "align", "warm_start", "policy"),
        may_fail=True,
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
    return [stage.name for stage in stages_of(recipe)]


def stages_of(recipe: Recipe) -> list[Stage]:
    sections = recipe.model_dump()
    return [
        stage
        for stage in STAGES
        if stage.section is None or value_at(sections, stage.section) is not None
    ]
