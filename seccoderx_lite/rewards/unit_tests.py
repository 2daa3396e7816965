"""Run tasks' tests against completions in the sandbox, identical code once per task."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from seccoderx_lite.core.code_blocks import AnswerCode, code_of_answer
from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Task, TestResult
from seccoderx_lite.core.required_code import asked_by
from seccoderx_lite.sandbox import Sandbox

logger = logging.getLogger(__name__)


def submit_tests(sandbox: Sandbox, task: Task, code: str) -> "Future[TestResult] | None":
    """Start a task's tests on code; None without tests or for blank code."""
    if task.tests is None or not code.strip():
        return None
    return sandbox.submit_tests(code, task.language, task.tests)


def wait_for(run: "Future[TestResult] | None") -> TestResult | None:
    """Return the result of a run; None if there was no run, or the sandbox or the tests failed."""
    if run is None:
        return None
    try:
        return run.result()
    except (SandboxError, DataError) as error:  # neither is the fault of the code
        logger.warning("unscored: %s", error)
        return None


def measured_code(task: Task, completion: str) -> AnswerCode:
    """Return the code of a completion for measuring it, see `core.code_blocks`.

    It is the code that the reward looks at, which pays only a closed block; here it counts wherever
    it is.
    """
    return code_of_answer(completion, task.language, asked_by(task.tests))


def run_tests(
    sandbox: Sandbox,
    tasks: Sequence[Task],
    codes: Sequence[str | None],
    on_result: Callable[[], None] = lambda: None,
) -> list[TestResult | None]:
    """Return one test result per code, in order.

    No code fails all tests. None means that the task has no tests, that they cannot be run, or
    that the sandbox failed.
    """
    keys = [(task.id, code or "") for task, code in zip(tasks, codes, strict=True)]
    runs: dict[tuple[str, str], Future[TestResult] | None] = {}
    for task, key in zip(tasks, keys, strict=True):
        if key not in runs:
            runs[key] = (
                sandbox.submit_tests(key[1], task.language, task.tests) if task.tests else None
            )
    results: dict[tuple[str, str], TestResult | None] = {}
    for key in keys:
        if key not in results:
            results[key] = wait_for(runs[key])
            on_result()
    return [results[key] for key in keys]
