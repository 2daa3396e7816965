"""The grader protocol, and the grader that runs a task's own tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seccoderx_lite.core.code_blocks import AnswerCode, CodeForm
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Task, TestResult
from seccoderx_lite.evaluation.metrics import SampleScore, score_sample
from seccoderx_lite.evaluation.suites.cweval import CwevalTask
from seccoderx_lite.rewards.unit_tests import measured_code, run_tests
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
    form: CodeForm | None = None
    """Where the code of the completion was; None where the grader does not tell."""


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
        codes = [_code(task, text) for task, text in items]
        run = [
            (task.source, code.code)
            for (task, _), code in zip(items, codes, strict=True)
            if code is not None and code.code is not None and isinstance(task.source, Task)
        ]
        tasks, texts = [source for source, _ in run], [text for _, text in run]
        results = iter(run_tests(self._sandbox, tasks, texts))
        return [
            _ungraded(task, code)
            if code is None or code.code is None
            else _graded(task, code.form, next(results))
            for (task, _), code in zip(items, codes, strict=True)
        ]


def _code(task: SuiteTask, completion: str | None) -> AnswerCode | None:
    """The code of a completion; None for a failed generation."""
    if completion is None:
        return None
    assert isinstance(task.source, Task)
    return measured_code(task.source, completion)


def _ungraded(task: SuiteTask, code: AnswerCode | None) -> Grade:
    """The grade of what has no code: ours to repeat, or the model's failure."""
    if code is None:
        return Grade(None, "failed_query", "the generation failed")
    return no_code(code.form, SampleScore(0.0, 0.0 if task.cwe else None))


def no_code(form: CodeForm, score: SampleScore) -> Grade:
    """Return the grade of a completion without code."""
    if form == "unfinished":
        return Grade(score, "truncated", "the completion ends before its code", form)
    return Grade(score, "no_code", "the completion has no code", form)


def _graded(task: SuiteTask, form: CodeForm, result: TestResult | None) -> Grade:
    if result is None:
        return Grade(None, "unscored", "the sandbox could not run the tests", form)
    try:
        score = score_sample(result, is_benign=not task.cwe)
    except ValueError as error:
        raise DataError(f"task {task.id}: {error}") from error
    return Grade(score, _status(form, result), result.output[:OUTPUT_CHARS], form)


def _status(form: CodeForm, result: TestResult) -> str:
    """How the tests ended; code that is cut off, or raises when it is loaded, is told apart."""
    if form == "unclosed" and result.status in ("failed", "compile_error"):
        return "truncated"
    return "load_error" if result.status == "failed" and not result.loads else result.status
