"""Run tasks' tests against completions in the sandbox; equal work is done once."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from seccoderx_lite.core.code_blocks import extract_code
from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.core.records import Task, TestResult
from seccoderx_lite.sandbox import Sandbox

logger = logging.getLogger(__name__)


def submit_tests(sandbox: Sandbox, task: Task, completion: str) -> "Future[TestResult] | None":
    """Start a task's tests on a completion's code; None where there are no tests or no code."""
    code = extract_code(completion)
    if task.tests is None or not code or not code.strip():
        return None
    return sandbox.submit_tests(code, task.language, task.tests)


def wait_for(run: "Future[TestResult] | None") -> TestResult | None:
    """Return the result of a run; None where there was none, or where the sandbox failed."""
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
    """Return one test result a completion, in order.

    A completion without code fails all its tests. None is only for tests that could not be run
    through our fault, and for tasks without tests.
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
