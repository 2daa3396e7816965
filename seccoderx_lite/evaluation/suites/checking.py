"""`eval code --check`: grade a benchmark's own solutions, to check this machine's setup."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Task, TestResult
from seccoderx_lite.evaluation.suites.grading import SuiteTask
from seccoderx_lite.sandbox import Sandbox

Side = Literal["reference", "unsafe"]


@dataclass(frozen=True, slots=True)
class SolutionCheck:
    """Whether one of the benchmark's own solutions gets the expected grade here."""

    task: str
    side: Side
    is_right: bool
    is_measurable: bool
    """False if this machine lacks a tool, so that the grade says nothing about the benchmark."""
    note: str = ""


def check_tests(sandbox: Sandbox, tasks: Sequence[SuiteTask]) -> Iterator[SolutionCheck]:
    """Yield the checks of each task's reference, and of its insecure twin where it has one.

    The reference must pass all tests; the twin all functional tests but not all security tests.
    """
    runs = [
        (task, side, sandbox.submit_tests(code, task.language, task.tests or {}))
        for task in (one.source for one in tasks)
        if isinstance(task, Task)
        for side, code in _solutions(task)
    ]
    for task, side, run in runs:
        yield _check(task, side, run)


def _solutions(task: Task) -> Iterator[tuple[Side, str]]:
    if task.reference:
        yield "reference", task.reference
    if insecure := task.extra.get("insecure"):
        yield "unsafe", insecure


def _check(task: Task, side: Side, run: "Future[TestResult]") -> SolutionCheck:
    try:
        result = run.result()
    except (SandboxError, DataError) as error:
        return SolutionCheck(task.id, side, False, False, str(error))
    is_right = result.is_functional
    if side == "unsafe":
        is_right = is_right and not result.is_secure
    elif result.security_total:
        is_right = is_right and result.is_secure
    return SolutionCheck(task.id, side, is_right, True, "" if is_right else _note(result))


def _note(result: TestResult) -> str:
    counts = f"{result.functional_passed} of {result.functional_total} functional"
    if result.security_total:
        counts += f" and {result.security_passed} of {result.security_total} security"
    return f"passes {counts} tests; {result.output[:200]}".replace("\n", " ")
