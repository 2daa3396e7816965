"""Whole programs: build them under limits, keep what was built by content, run the cases.

A build is as untrusted as the program: it happens in a jail of its own. What it left is kept by the
hash of source and command, so that equal completions are built once.
"""

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.records import ExecutionResult, ExecutionStatus, TestResult
from seccoderx_lite.sandbox import results, stdio
from seccoderx_lite.sandbox.languages import BUILD_LIMITS, Program
from seccoderx_lite.sandbox.limits import Limits

CACHE_BYTES = 128 << 20
CASES_TIME = 4
"""All cases of a task together may take this many times the limit of one."""

Ask = Callable[[Mapping[str, Any], float], dict[str, Any]]
"""Runs one request within some seconds and returns the answer."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left, as base64 by name; empty with the reason when it failed."""

    files: Mapping[str, str]
    status: ExecutionStatus = "passed"
    message: str = ""

    def size(self) -> int:
        """Bytes this takes in the cache, about."""
        return sum(map(len, self.files.values())) + len(self.message) + 200


class BuildCache:
    """The most recent builds, up to `CACHE_BYTES`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: OrderedDict[str, Built] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Built | None:
        """A kept build."""
        with self._lock:
            if key in self._built:
                self._built.move_to_end(key)
            return self._built.get(key)

    def put(self, key: str, built: Built) -> None:
        """Keep a build; the oldest make room."""
        with self._lock:
            if key in self._built:
                return
            self._built[key] = built
            self._bytes += built.size()
            while self._bytes > CACHE_BYTES:
                _, old = self._built.popitem(last=False)
                self._bytes -= old.size()


def build(program: Program, code: str, ask: Ask, cache: BuildCache) -> Built:
    """The files to run a program from; compiled in a jail unless that was done before."""
    source = base64.b64encode(code.encode("utf-8", "surrogatepass")).decode()
    if program.build is None:
        return Built({program.file: source})
    key = hashlib.sha256(repr((program.build, source)).encode()).hexdigest()
    if kept := cache.get(key):
        return kept
    step = {
        "command": list(program.build),
        "limits": as_dict(BUILD_LIMITS),
        "data_only": True,
        "env": dict(program.environment),
    }
    request = {
        "kind": "exec",
        "files": {program.file: source},
        "steps": [step],
        "collect": list(program.products),
    }
    answer = ask(request, BUILD_LIMITS.timeout_s)
    outcome = results.execution(answer["steps"][0], "")
    built = _sort_build(outcome, answer["collected"])
    if outcome.status in ("passed", "failed"):
        cache.put(key, built)
    return built


def _sort_build(outcome: ExecutionResult, collected: Mapping[str, str]) -> Built:
    """A build counts by the files it left, not by its exit status alone."""
    if outcome.status == "passed" and collected:
        return Built(collected)
    message = (outcome.stderr or outcome.stdout)[:4000]
    return Built({}, "compile_error", message or f"the build ended with {outcome.status}")


def run_cases(
    program: Program, built: Built, cases: list[stdio.Case], limits: Limits, ask: Ask, tier: str
) -> TestResult:
    """Run every case and compare; the counts are those of the cases, whatever was printed."""
    if built.status != "passed":
        unbuilt = {case.name: (built.status, built.message) for case in cases}
        return _count(cases, unbuilt, tier, limits)
    common = {
        "limits": as_dict(limits),
        "data_only": program.reserves_memory,
        "env": dict(program.environment),
    }
    request = {
        "kind": "exec",
        "files": dict(built.files),
        "steps": stdio.steps_for(cases, program.start, common),
        "budget_s": CASES_TIME * limits.timeout_s,
    }
    answer = ask(request, CASES_TIME * limits.timeout_s)
    complaints: dict[str, tuple[ExecutionStatus, str]] = {}
    for case, step in zip(cases, answer["steps"], strict=True):
        outcome = results.execution(step, tier)
        if outcome.exit_code is None:
            complaints[case.name] = (outcome.status, outcome.stderr[-300:])
        elif wrong := case.complaint(outcome.exit_code, outcome.stdout):
            complaints[case.name] = ("failed", f"{wrong} {outcome.stderr[-300:]}")
    return _count(cases, complaints, tier, limits)


def _count(
    cases: list[stdio.Case],
    complaints: Mapping[str, tuple[ExecutionStatus, str]],
    tier: str,
    limits: Limits,
) -> TestResult:
    def share(group: str) -> tuple[int, int]:
        own = [case.name for case in cases if case.group == group]
        return sum(name not in complaints for name in own), len(own)

    functional, security = share("functionality"), share("security")
    output = "\n".join(f"{name}: {status}: {text}" for name, (status, text) in complaints.items())
    return TestResult(
        status=results.gravest({status for status, _ in complaints.values()}),
        functional_passed=functional[0],
        functional_total=functional[1],
        security_passed=security[0],
        security_total=security[1],
        output=output[: max(limits.output_bytes, 2000)],
        isolation=tier,
    )


def as_dict(limits: Limits) -> dict[str, float]:
    """Limits as they go to a supervisor."""
    return {
        "timeout_s": limits.timeout_s,
        "memory_mb": limits.memory_mb,
        "output_bytes": limits.output_bytes,
        "processes": limits.processes,
    }
