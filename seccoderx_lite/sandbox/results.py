"""From a supervisor's answer to a result: counts from the plan, causes in order of weight."""

import base64
import dataclasses
import json
import os
import signal
from collections.abc import Collection, Mapping
from typing import Any

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import ExecutionResult, ExecutionStatus, TestResult
from seccoderx_lite.sandbox.plan import Group, Plan

WEIGHT: tuple[ExecutionStatus, ...] = (
    "tampered", "output_limit", "memory", "timeout", "crashed", "compile_error", "failed",
)  # fmt: skip
"""The gravest cause among the failed tests is the status of the whole."""


def secret_of(plan: Plan) -> bytes:
    """What the tester alone is told."""
    told: dict[str, Any] = {"tests": list(plan.groups)}
    if plan.source is not None:
        told["source"] = plan.source
    else:
        told["entry_point"], told["cases"] = plan.entry_point, plan.cases
    return json.dumps(told).encode()


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
    if end == "trainer gone":
        raise SandboxError("the run was cut off")
    if end != "done":
        cause = "crashed" if end == "tester gone" else end
        notes.append(f"stopped: {end}")
        for name in plan.groups:
            causes.setdefault(name, cause)
    passed = {name for name in plan.groups if causes.get(name) == "passed"}
    printed = answer["output"]
    output = "\n".join([*notes, *([printed] if printed else [])])
    return TestResult(
        status=_status(plan, causes),
        functional_passed=count(plan, passed, "functionality"),
        functional_total=plan.total("functionality"),
        security_passed=count(plan, passed, "security"),
        security_total=plan.total("security"),
        output=output[: max(output_bytes, 2000)],
        isolation=tier,
    )


def count(plan: Plan, passed: set[str], group: Group) -> int:
    """How many of the passed tests belong to a group."""
    return sum(plan.groups[name] == group for name in passed)


def _status(plan: Plan, causes: Mapping[str, str]) -> ExecutionStatus:
    return gravest({causes.get(name, "failed") for name in plan.groups} - {"passed"})


def gravest(causes: Collection[str]) -> ExecutionStatus:
    """The status of a whole from the causes of its failed tests; passed without any."""
    if not causes:
        return "passed"
    return next((status for status in WEIGHT if status in causes), "failed")


def with_seconds(result: TestResult, seconds: float) -> TestResult:
    """The result with the wall time the caller measured."""
    return dataclasses.replace(result, seconds=seconds)


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
    if step["end"] == "trainer gone":
        raise SandboxError("the run was cut off")
    if step["end"] in ("timeout", "memory", "output_limit"):
        status: ExecutionStatus = step["end"]
        return status
    if exit_code is None:
        by_clock = os.WTERMSIG(step["wait_status"]) in (signal.SIGXCPU,)
        return "timeout" if by_clock else "crashed"
    return "passed" if exit_code == 0 else "failed"
