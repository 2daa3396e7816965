"""Run tasks' tests against completions in the sandbox, identical code once per task."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from seccoderx_lite.core.code_blocks import extract_code
from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.core.records import Task, TestResult
from seccoderx_lite.sandbox import Sandbox

logger = logging.getLogger(__name__)


def submit_tests(sandbox: Sandbox, task: Task, code: str) -> "Future[TestResult] | None":
    """Start a task's tests on code; None without tests or for blank code."""
    if task.tests is None or not code.strip():
        return None
    return sandbox.submit_tests(code, task.language, task.tests)


def wait_for(run: "Future[TestResult] | None") -> TestResult | None:
    """Return the result of a run; None if there was no run or the sandbox failed."""
    if run is None:
        return None
    try:
        return run.result()
    except SandboxError as error:
        logger.warning("unscored: %s", error)
        return None


def run_tests(
    sandbox: Sandbox,
    tasks: Sequence[Task],
    completions: Sequence[str],
    on_result: Callable[[], None] = lambda: None,
) -> list[TestResult | None]:
    """Return one test result per completion, in order.

    A completion without code fails all its tests. None means that the task has no tests or that
    the sandbox failed.
    """
    keys = [
        (task.id, extract_code(text) or "") for task, text in zip(tasks, completions, strict=True)
    ]
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
