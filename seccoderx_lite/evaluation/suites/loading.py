"""Load suites by name, and make the graders they need."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Task
from seccoderx_lite.data.loading import load_tasks
from seccoderx_lite.evaluation.suites.cweval import read_cweval
from seccoderx_lite.evaluation.suites.cweval_grading import CwevalGrader
from seccoderx_lite.evaluation.suites.cyberseceval import (
    CybersecevalGrader,
    read_cyberseceval,
)
from seccoderx_lite.evaluation.suites.functions import (
    COMPLETE,
    FUNCTION_SUITES,
    CompletionGrader,
    read_functions,
)
from seccoderx_lite.evaluation.suites.grading import Grader, SuiteTask, TestsGrader
from seccoderx_lite.evaluation.suites.over_refusal import RefusalGrader, read_xscode
from seccoderx_lite.evaluation.suites.seccodeplt import (
    RuleGrader,
    has_cases,
    is_held_out,
    read_seccodeplt,
    rule_of,
)
from seccoderx_lite.judge.codeshield import CodeShield
from seccoderx_lite.models.generation import Generator
from seccoderx_lite.recipe.recipe import EvaluateRecipe
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.sandbox.planning import groups_of

logger = logging.getLogger(__name__)

SuiteKind = Literal["tests", "completion", "rules", "xscode", "cweval", "cyberseceval"]
JUDGED: tuple[SuiteKind, ...] = ("rules", "xscode")
"""Suites that only a judge model can grade."""
USE_JUDGE: tuple[SuiteKind, ...] = ("cyberseceval", *JUDGED)
"""Suites that a judge model grades, or helps to."""
SPLITS = ("held_out", "transfer", "benign")
"""Splits that are evaluated, each as a separate suite; data without splits is one suite."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Tasks that are scored and reported together."""

    name: str
    tasks: tuple[SuiteTask, ...]
    kind: SuiteKind = "tests"


def load_suites(settings: EvaluateRecipe, trained_on: Collection[str] = ()) -> list[Suite]:
    """Return the suites of a recipe, one per split; without a judge none that needs it.

    A source is `builtin:tiny`, a file or hub id of tasks with tests, or `BENCHMARK:PLACE`. Of a
    place that the run is trained on, only rows of the split `held_out` are measured, which have no
    relatives in training.

    Raises:
        DataError: a source cannot be read, or no task has tests and is in an evaluated split.
    """
    suites = []
    for suite in (suite for source in settings.suites for suite in load_suite(source, trained_on)):
        if suite.kind in JUDGED and settings.functionality_judge is None:
            logger.warning(
                "%s: leaving out %d tasks that only a judge model can grade; give one with --judge "
                "or evaluate.functionality_judge",
                suite.name,
                len(suite.tasks),
            )
            continue
        suites.append(Suite(suite.name, suite.tasks[: settings.limit], suite.kind))
    if not suites:
        raise DataError(
            f"suites: {', '.join(settings.suites)} need a judge model; give one with --judge or "
            "evaluate.functionality_judge"
        )
    return suites


def load_suite(source: str, trained_on: Collection[str] = ()) -> list[Suite]:
    """Return the suites of one source."""
    kind, _, place = source.partition(":")
    if kind == "cweval":
        tasks = read_cweval(Path(place).expanduser())
        found = [SuiteTask(t.id, t.prompt, t.language, t.cwe, t) for t in tasks]
        return [Suite("cweval", tuple(found), "cweval")]
    if kind == "cyberseceval":
        prompts = read_cyberseceval(str(Path(place).expanduser()))
        return [Suite("cyberseceval", tuple(prompts), "cyberseceval")]
    if kind in ("seccodeplt", "seccodeplt-policy"):
        return _seccodeplt(kind, str(Path(place).expanduser()), place in trained_on)
    if kind == "xscode":
        return [Suite(kind, tuple(read_xscode(str(Path(place).expanduser()))), "xscode")]
    if kind.removesuffix(COMPLETE) in FUNCTION_SUITES and place:
        functions = read_functions(kind, str(Path(place).expanduser()))
        grading: SuiteKind = "completion" if kind.endswith(COMPLETE) else "tests"
        return [Suite(kind, tuple(functions), grading)]
    return _suites_with_tests(source)


def _seccodeplt(kind: str, source: str, is_trained_on: bool) -> list[Suite]:
    """The rows with cases, and those with only a rule in words."""
    tasks = read_seccodeplt(source, with_policy=kind == "seccodeplt-policy")
    if is_trained_on:
        logger.info("%s: measuring held-out families only, because the run trains on it", kind)
        tasks = [task for task in tasks if is_held_out(task)]
        kind = f"{kind}/held_out"
    tested = [task for task in tasks if has_cases(task)]
    ruled = [task for task in tasks if not has_cases(task) and rule_of(task)]
    suites = [Suite(kind, tuple(tested)), Suite(f"{kind}/rules", tuple(ruled), "rules")]
    return [suite for suite in suites if suite.tasks]


def _suites_with_tests(source: str) -> list[Suite]:
    rows = load_tasks(source)
    tested = [task for task in rows if task.tests]
    if not tested:
        raise DataError(
            f"{source}: evaluation needs tasks with tests (got {len(rows)} tasks without); add the "
            "column `tests`, or name the benchmark: cweval:FOLDER, cyberseceval:FILE"
        )
    if len(tested) < len(rows):
        logger.warning("%s: skipping %d tasks without tests", source, len(rows) - len(tested))
    tested = _measurable(source, tested)
    if not any("split" in task.extra for task in tested):
        return _benign_apart(source, tested)
    suites: list[Suite] = []
    for split in SPLITS:
        if tasks := [task for task in tested if task.extra.get("split") == split]:
            suites += _benign_apart(f"{source}/{split}", tasks)
    if not suites:
        found = sorted({str(task.extra.get("split")) for task in tested})
        raise DataError(
            f"{source}: only the splits {', '.join(SPLITS)} are evaluated, but it has only "
            f"{', '.join(found)}; rename one, or remove the column split to evaluate all tasks"
        )
    return suites


def _measurable(source: str, tasks: Sequence[Task]) -> list[Task]:
    """The tasks with functional tests, and security tests if they name a weakness."""
    groups = {id(task): groups_of(task.tests or {}, task.language) for task in tasks}
    working = _without(
        [task for task in tasks if "functionality" not in groups[id(task)]],
        tasks,
        f"{source}: {{}} have no functional test",
        "add functional tests: what does nothing is secure",
    )
    return _without(
        [task for task in working if task.cwe and "security" not in groups[id(task)]],
        working,
        f"{source}: {{}} name a weakness and have no security test",
        "add security tests, or remove cwe to measure function alone",
    )


def _without(unknown: Sequence[Task], tasks: Sequence[Task], what: str, advice: str) -> list[Task]:
    """Leave out, and name, the tasks that cannot be measured; at least one must remain."""
    if not unknown:
        return list(tasks)
    names = ", ".join(task.id for task in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
    found = f"{what.format(f'{len(unknown)} of {len(tasks)} tasks')} ({names})"
    if len(unknown) == len(tasks):
        raise DataError(f"{found}; {advice}")
    logger.warning("%s: skipping them; %s", found, advice)
    left_out = {id(task) for task in unknown}
    return [task for task in tasks if id(task) not in left_out]


def _benign_apart(name: str, tasks: Sequence[Task]) -> list[Suite]:
    """One suite, or two if some tasks name a weakness and others do not."""
    weak = [task for task in tasks if task.cwe]
    benign = [task for task in tasks if not task.cwe]
    if not (weak and benign):
        return [Suite(name, tuple(map(_suite_task, tasks)))]
    return [
        Suite(name, tuple(map(_suite_task, weak))),
        Suite(f"{name}/benign", tuple(map(_suite_task, benign))),
    ]


def _suite_task(task: Task) -> SuiteTask:
    return SuiteTask(task.id, task.prompt, task.language, task.cwe, task)


def make_graders(
    suites: Sequence[Suite], sandbox: Sandbox, judge: Generator | None, judge_tokens: int
) -> Mapping[SuiteKind, Grader]:
    """Return the graders that the suites need; `judge` grades what tests cannot.

    Raises:
        DataError: a suite needs a judge and there is none.
        SandboxError: CyberSecEval's detector is missing or does not work.
    """
    kinds = {suite.kind for suite in suites}
    graders: dict[SuiteKind, Grader] = {}
    if "tests" in kinds:
        graders["tests"] = TestsGrader(sandbox)
    if "completion" in kinds:
        graders["completion"] = CompletionGrader(TestsGrader(sandbox))
    if "cweval" in kinds:
        graders["cweval"] = CwevalGrader(sandbox)
    if "cyberseceval" in kinds:
        graders["cyberseceval"] = CybersecevalGrader(CodeShield(), judge, judge_tokens)
    if "rules" in kinds:
        graders["rules"] = RuleGrader(_required(judge), judge_tokens)
    if "xscode" in kinds:
        graders["xscode"] = RefusalGrader(_required(judge), judge_tokens)
    return graders


def _required(judge: Generator | None) -> Generator:
    if judge is None:
        raise DataError("suites: this suite needs a judge model; give one with --judge")
    return judge
