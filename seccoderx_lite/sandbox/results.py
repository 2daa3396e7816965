"""From a supervisor's answer to a result: counts from the plan, status from the worst failure."""

import base64
import os
import signal
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import ExecutionResult, ExecutionStatus, TestResult
from seccoderx_lite.sandbox.calls_tests import Plan

WORST_FIRST: tuple[ExecutionStatus, ...] = (
    "tampered",
    "output_limit",
    "memory",
    "timeout",
    "crashed",
    "compile_error",
    "failed",
)
"""The first of these among the failed tests is the status of the whole result."""
MIN_OUTPUT = 2000
"""A result keeps this many characters of notes, however little the code may print."""


def judge(plan: Plan, answer: Mapping[str, Any], tier: str, output_bytes: int) -> TestResult:
    """The result of a `calls` job.

    Raises:
        DataError: the test text itself could not be loaded.
        SandboxError: the tester broke without the candidate's doing.
    """
    causes: dict[str, str] = {}
    notes: list[str] = []
    for report in answer["reports"]:
        if "bad_tests" in report:
            raise DataError(report["bad_tests"])
        is_killed = answer["ran_out"] and report["cause"] == "crashed"
        causes[report["test"]] = "memory" if is_killed else report["cause"]
        if report["cause"] != "passed":
            notes.append(f"{report['test']}: {report['note']}")
    end = answer["end"]
    _check_trainer(end)
    if end != "done":
        cause = "crashed" if end == "tester gone" else end
        notes.append(f"stopped: {end}")
        causes = {**dict.fromkeys(plan.groups, cause), **causes}
    if answer["output"]:
        notes.append(answer["output"])
    loads = all(report["loads"] for report in answer["reports"])
    return replace(test_result(plan, causes, notes, output_bytes, tier), loads=loads)


def test_result(
    plan: Plan, causes: Mapping[str, str], notes: Collection[str], output_bytes: int, tier: str
) -> TestResult:
    """A result from the cause of each test ("passed" or why not); a missing test has failed."""
    passed = {name for name in plan.groups if causes.get(name) == "passed"}
    return TestResult(
        status=worst({causes.get(name, "failed") for name in plan.groups} - {"passed"}),
        functional_passed=plan.count("functionality", passed),
        functional_total=plan.count("functionality"),
        security_passed=plan.count("security", passed),
        security_total=plan.count("security"),
        output="\n".join(notes)[: max(output_bytes, MIN_OUTPUT)],
        isolation=tier,
    )


def worst(causes: Collection[str]) -> ExecutionStatus:
    """The status of a result from the causes of its failed tests; `passed` if there are none."""
    if not causes:
        return "passed"
    return next((status for status in WORST_FIRST if status in causes), "failed")


def execution(step: Mapping[str, Any], tier: str) -> ExecutionResult:
    """The result of one command."""
    wait_status = step["wait_status"]
    exited = wait_status is not None and os.WIFEXITED(wait_status)
    exit_code = os.WEXITSTATUS(wait_status) if exited and step["end"] == "done" else None
    return ExecutionResult(
        status=_command_status(step, exit_code),
        exit_code=exit_code,
        stdout=base64.b64decode(step["stdout"]).decode("utf-8", "replace"),
        stderr=base64.b64decode(step["stderr"]).decode("utf-8", "replace"),
        seconds=step["seconds"],
        isolation=tier,
    )


def _command_status(step: Mapping[str, Any], exit_code: int | None) -> ExecutionStatus:
    _check_trainer(step["end"])
    if step["end"] in ("timeout", "memory", "output_limit"):
        status: ExecutionStatus = step["end"]
        return status
    if exit_code is None:
        # The kernel's own limit on processor time, which can fire before the supervisor's clock.
        return "timeout" if os.WTERMSIG(step["wait_status"]) == signal.SIGXCPU else "crashed"
    return "passed" if exit_code == 0 else "failed"


def _check_trainer(end: str) -> None:
    if end == "trainer gone":
        raise SandboxError("the run was interrupted: the sandbox was closed while it ran")
