"""Whole programs: build them under limits, cache the builds, and run the cases of `stdio` tests.

A build is as untrusted as the program, so it runs in a jail of its own. The cache key is the source
and the build command: identical completions are built once.
"""

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from seccoderx_lite.core.records import ExecutionResult, ExecutionStatus, TestResult
from seccoderx_lite.sandbox import results, stdio
from seccoderx_lite.sandbox.calls_tests import Plan
from seccoderx_lite.sandbox.jobs import Ask, Command, exec_job, to_bytes
from seccoderx_lite.sandbox.languages import BUILD_LIMITS, Program
from seccoderx_lite.sandbox.limits import Limits

CACHE_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Build:
    """The files that a build produced, by name; none, with the reason, if it failed."""

    files: Mapping[str, bytes]
    status: ExecutionStatus = "passed"
    message: str = ""

    def size(self) -> int:
        """Approximate number of bytes in the cache."""
        return sum(map(len, self.files.values())) + len(self.message) + 200


class BuildCache:
    """The most recent builds, up to `CACHE_BYTES`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._builds: OrderedDict[str, Build] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._builds)

    def get(self, key: str) -> Build | None:
        with self._lock:
            if key in self._builds:
                self._builds.move_to_end(key)
            return self._builds.get(key)

    def put(self, key: str, build: Build) -> None:
        """Cache a build; the least recently used ones are dropped."""
        with self._lock:
            if key in self._builds:
                return
            self._builds[key] = build
            self._bytes += build.size()
            while self._bytes > CACHE_BYTES:
                _, old = self._builds.popitem(last=False)
                self._bytes -= old.size()


def build(program: Program, code: str, ask: Ask, cache: BuildCache) -> Build:
    """The files that the program runs from: compiled in a jail, or from the cache."""
    source = {program.file: to_bytes(code)}
    if program.build is None:
        return Build(source)
    key = hashlib.sha256(repr((program.build, code)).encode()).hexdigest()
    if cached := cache.get(key):
        return cached
    command = Command(
        program.build, BUILD_LIMITS, environment=program.environment, reserves_memory=True
    )
    answer = ask(exec_job([command], source, program.products), BUILD_LIMITS.timeout_s)
    outcome = results.execution(answer["steps"][0], "")
    built = _to_build(outcome, answer["collected"])
    # A build that ran out of time or memory may succeed when the machine is less busy.
    if outcome.status in ("passed", "failed"):
        cache.put(key, built)
    return built


def _to_build(outcome: ExecutionResult, collected: Mapping[str, str]) -> Build:
    """A build needs its files, not just exit status 0, which code that runs in it could fake."""
    if outcome.status == "passed" and collected:
        return Build({name: base64.b64decode(content) for name, content in collected.items()})
    message = (outcome.stderr or outcome.stdout)[:4000]
    return Build({}, "compile_error", message or f"the build ended with status {outcome.status}")


def run_cases(
    program: Program, build: Build, cases: list[stdio.Case], limits: Limits, ask: Ask, tier: str
) -> TestResult:
    """Run every case and compare its output; the totals come from the cases alone."""
    plan = Plan({case.name: case.group for case in cases})
    if build.status == "passed":
        failures = _failures(program, build, cases, limits, ask)
    else:
        failures = {case.name: (build.status, build.message) for case in cases}
    causes = {name: failures.get(name, ("passed",))[0] for name in plan.groups}
    notes = [f"{name}: {status}: {text}" for name, (status, text) in failures.items()]
    return results.test_result(plan, causes, notes, limits.output_bytes, tier)


def _failures(
    program: Program, build: Build, cases: list[stdio.Case], limits: Limits, ask: Ask
) -> dict[str, tuple[ExecutionStatus, str]]:
    """Status and message of each case that failed, by name."""
    commands = [
        Command(
            words=[*program.start, *case.arguments],
            limits=limits,
            stdin=case.stdin,
            files=case.files,
            environment=program.environment,
            reserves_memory=program.reserves_memory,
            is_case=True,
        )
        for case in cases
    ]
    seconds = limits.timeout_s
    answer = ask(exec_job(commands, build.files, budget_s=seconds), seconds)
    failures: dict[str, tuple[ExecutionStatus, str]] = {}
    for case, step in zip(cases, answer["steps"], strict=True):
        outcome = results.execution(step, "")
        if outcome.exit_code is None:
            failures[case.name] = (outcome.status, outcome.stderr[-300:])
        elif wrong := case.complaint(outcome.exit_code, outcome.stdout):
            failures[case.name] = ("failed", f"{wrong} {outcome.stderr[-300:]}")
    return failures
