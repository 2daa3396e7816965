"""What a grader is, and the one that runs a task's own tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Task
from seccoderx_lite.evaluation.metrics import SampleScore, score_sample
from seccoderx_lite.evaluation.suites.cweval import CwevalFiles
from seccoderx_lite.rewards.unit_tests import run_tests
from seccoderx_lite.sandbox import Sandbox

OUTPUT_CHARS = 2000
"""Longest text kept of what grading said about one completion."""


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """One prompt of a suite and what its grader needs."""

    id: str
    prompt: str
    language: str
    """Any name, also of languages that only some graders know."""
    cwe: tuple[str, ...]
    source: Task | CwevalFiles | None = None


@dataclass(frozen=True, slots=True)
class Grade:
    """How one completion did; `score` is None when it is unscored through our fault."""

    score: SampleScore | None
    status: str
    """How the tests ended, or why there was nothing to run."""
    output: str = ""


class Grader(Protocol):
    """Grades the completions of a suite."""

    uses_model: bool
    """Whether a model on the accelerator is asked, so that nothing can be generated meanwhile."""

    def grade(self, items: Sequence[tuple[SuiteTask, str | None]]) -> list[Grade]:
        """Return one grade a completion, in order, on all cores; None is a failed generation."""
        ...


class TestsGrader:
    """Runs the tests that a task brings with it."""

    __test__ = False  # not a test class, whatever pytest makes of the name
    uses_model = False

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def grade(self, items: Sequence[tuple[SuiteTask, str | None]]) -> list[Grade]:
        """Return one grade a completion; code that is the same for the same task runs once.

        Raises:
            DataError: a task has no functional test, or names a weakness and has no security test.
        """
        present = [(task.source, text) for task, text in items if text is not None]
        tasks = [source for source, _ in present if isinstance(source, Task)]
        results = iter(run_tests(self._sandbox, tasks, [text for _, text in present]))
        grades = []
        for task, text in items:
            if text is None:
                grades.append(Grade(None, "failed_query", "the generation failed"))
                continue
            result = next(results)
            if result is None:
                grades.append(Grade(None, "unscored", "the sandbox could not run the tests"))
                continue
            try:
                score = score_sample(result, is_benign=not task.cwe)
            except ValueError as error:
                raise DataError(f"task {task.id}: {error}") from error
            grades.append(Grade(score, result.status, result.output[:OUTPUT_CHARS]))
        return grades
