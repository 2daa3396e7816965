"""The grader protocol, and the grader that runs a task's own tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Task
from seccoderx_lite.evaluation.metrics import SampleScore, score_sample
from seccoderx_lite.evaluation.suites.cweval import CwevalTask
from seccoderx_lite.rewards.unit_tests import run_tests
from seccoderx_lite.sandbox import Sandbox

OUTPUT_CHARS = 2000
"""Longest test output stored per completion."""


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """One prompt of a suite and what its grader needs."""

    id: str
    prompt: str
    language: str
    """Any name: some graders know more languages than `Language` has."""
    cwe: tuple[str, ...]
    source: Task | CwevalTask | None = None


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one completion; the score is None when an internal error left it unscored."""

    score: SampleScore | None
    status: str
    """How the tests ended, or why none could run."""
    output: str = ""


class Grader(Protocol):
    """Grades the completions of a suite."""

    uses_model: bool
    """True if grading uses a model on the GPU, so that no completion can be generated meanwhile."""

    def grade(self, items: Sequence[tuple[SuiteTask, str | None]]) -> list[Grade]:
        """Return one grade per completion, in order, on all cores; None is a failed generation."""
        ...


class TestsGrader:
    """Runs the tests of `Task.tests`."""

    __test__ = False  # not a test class, whatever pytest makes of the name
    uses_model = False

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def grade(self, items: Sequence[tuple[SuiteTask, str | None]]) -> list[Grade]:
        """Return one grade per completion; equal code for the same task runs once.

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
