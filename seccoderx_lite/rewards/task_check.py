"""Do the tests of tasks accept their own references? Tests that do not would reward wrong code."""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Literal

from seccoderx_lite.core.errors import DataError, RunFolderError, SandboxError
from seccoderx_lite.core.records import Task, TestResult
from seccoderx_lite.run import files
from seccoderx_lite.sandbox import Sandbox

logger = logging.getLogger(__name__)

NAMED = 5
"""So many failing tasks are named with their reasons; the others are counted."""
_ONLY_SECURITY = "only security tests fail: "
"""Begins the reason of a reference that passes all functional tests."""


def sound_tasks(
    tasks: Sequence[Task],
    source: str,
    check: Literal["drop", "refuse", "off"],
    sandbox: Sandbox,
    known: Path,
    *,
    with_security: bool = True,
) -> list[Task]:
    """Return the tasks whose reference passes their tests, or that have no reference or tests.

    Without `with_security`, security tests do not matter: a training that does not use them keeps
    tasks whose reference is insecure. Each reference is run once; the file `known` has the results
    of earlier calls. A reference that the sandbox fails to run proves nothing, so its task is kept.
    Built-in tasks are not checked.

    Raises:
        DataError: a reference fails and `check` is `refuse`, or no task is left.
    """
    if check == "off" or source.startswith("builtin:"):
        return list(tasks)
    reasons = _reasons(tasks, sandbox, known)
    failing = {
        task.id: reason
        for task in tasks
        if (reason := reasons.get(_key(task)))
        and (with_security or not reason.startswith(_ONLY_SECURITY))
    }
    if not failing:
        return list(tasks)
    lines = [f"\n  {name}: {reason}" for name, reason in list(failing.items())[:NAMED]]
    more = f"\n  and {len(failing) - NAMED} more" if len(failing) > NAMED else ""
    found = (
        f"{source}: the references of {len(failing)} of {len(tasks)} tasks fail their own tests:"
        f"{''.join(lines)}{more}\n"
    )
    kept = [task for task in tasks if task.id not in failing]
    if check == "refuse" or not kept:
        raise DataError(f"{found}correct the tests or the references, or set tasks.check: off")
    logger.warning("%sthese tasks are left out; tasks.check: off keeps them", found)
    return kept


def _stored_reasons(known: Path) -> dict[str, str]:
    """Return the reasons found before; none from a damaged file, which is written again."""
    try:
        stored = files.read_object(known) if known.exists() else {}
    except RunFolderError as error:
        logger.warning("%s; the references are run again", error)
        return {}
    return {key: reason for key, reason in stored.items() if isinstance(reason, str)}


def _reasons(tasks: Sequence[Task], sandbox: Sandbox, known: Path) -> dict[str, str]:
    """Why each reference fails, by key; empty for one that passes."""
    reasons = _stored_reasons(known)
    runs: dict[str, tuple[Task, Future[TestResult]]] = {}
    for task in tasks:
        key = _key(task)
        if task.reference and task.tests and key not in reasons and key not in runs:
            runs[key] = task, sandbox.submit_tests(task.reference, task.language, task.tests)
    for key, (task, run) in runs.items():
        try:
            result = run.result()
        except DataError as error:
            reasons[key] = str(error)
        except SandboxError as error:
            logger.warning("task %s: its reference could not be run: %s", task.id, error)
        else:
            reasons[key] = _why(result)
    if runs:
        files.write_json(known, reasons)
    return reasons


def _why(result: TestResult) -> str:
    """Why a reference fails; empty if it passes."""
    if result.status == "passed":
        return ""
    start = _ONLY_SECURITY if result.is_functional else ""
    return f"{start}{result.status}: {result.output.strip()[:300]}"


def _key(task: Task) -> str:
    """A cache key: the language, the reference and the tests."""
    text = json.dumps([task.language, task.reference, task.tests], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
