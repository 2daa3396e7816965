"""`Sandbox`: runs model-written code and counts the tests it passes.

If the code fails, that is a result; if the sandbox fails, that is a SandboxError.
"""

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import LANGUAGES, ExecutionResult, Json, Language, TestResult
from seccoderx_lite.sandbox import isolation as isolation_module
from seccoderx_lite.sandbox import languages, programs, pytest_tests, results, stdio
from seccoderx_lite.sandbox.calls_tests import Plan
from seccoderx_lite.sandbox.controls import Controls
from seccoderx_lite.sandbox.jobs import Command, exec_job, to_bytes
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.packages import find_packages, why_missing
from seccoderx_lite.sandbox.planning import plan_tests, without_padding
from seccoderx_lite.sandbox.worker import ANSWER_GRACE_S, Worker, settings_for

WAITING_JOBS = 256
"""With this many unfinished jobs, submitting another waits until one finishes."""


@dataclass(frozen=True, slots=True)
class SandboxDescription:
    """What a sandbox offers on this machine, for `doctor` and `environment.json`."""

    tier: str
    layers: Mapping[str, str]
    """Layer -> "on", or why it is off."""
    promises: Mapping[str, str]
    """Promise -> "kept", or how the self-test broke it."""
    repairs: Sequence[str]
    """What is missing for the strongest tier, with what to do about it."""
    kernel: str
    python: str
    """The interpreter that runs the code."""
    toolchains: Mapping[str, str]
    workers: int
    limits: Limits


class Sandbox:
    """A pool of warm workers; use it as a context manager, or call `close`."""

    def __init__(
        self,
        isolation: str = "confined",
        workers: int | None = None,
        limits: Limits | None = None,
        without: Sequence[str] = (),
        readable: Sequence[str] = (),
        packages: Sequence[str] = (),
    ) -> None:
        """Start the first worker and test how well this machine isolates.

        Args:
            isolation: weakest tier to accept: strong, confined or limits-only.
            workers: parallel jobs (default: the number of cores).
            limits: default limits of every run.
            without: layers to switch off, to test what the others hold: namespaces, bubblewrap,
                landlock, seccomp, uid or cgroup.
            readable: folders of installed tools that commands may read and run.
            packages: installed packages that Python code may import.

        Raises:
            SandboxError: this machine offers a weaker tier than `isolation`, or a package is
                missing.
        """
        isolation_module.check_names(isolation, without)
        self.limits = limits or Limits()
        count = workers or len(os.sched_getaffinity(0))
        self.offer = find_packages(packages)
        """The packages that Python code may import."""
        readable = [*pytest_tests.site_folders(), *readable]
        settings = settings_for(without, readable, self.offer)
        self.workers = [Worker(settings) for _ in range(count)]
        self.isolation = self._find_isolation(isolation)
        """What confines the jobs of this sandbox."""
        self.builds = programs.BuildCache()
        self._controls = Controls(self._run_control, self.isolation.tier)
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sandbox")
        self._places = threading.BoundedSemaphore(WAITING_JOBS)
        self._closed = False
        self._require_packages()

    def _find_isolation(self, wanted: str) -> isolation_module.Isolation:
        try:
            found = isolation_module.find(self.workers[0])
            isolation_module.require(wanted, found)
        except BaseException:
            self.workers[0].close()
            raise
        return found

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_packages(self) -> None:
        """Import the offered packages in a jail, with its limits."""
        for name in self.offer.modules:
            ended = self.run({}, [self.python, "-c", f"import {name}"])
            if ended.status != "passed":
                self.close()
                raise SandboxError(
                    f"sandbox.packages: {name} cannot be imported in the sandbox, whose user needs "
                    f"to be able to read {self.offer.folder} ({ended.status}): "
                    f"{ended.stderr.strip()[-300:]}"
                )

    def close(self) -> None:
        """Cancel waiting jobs, wait for running ones, and end all processes."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self.workers:
            worker.close()

    @property
    def python(self) -> str:
        """The interpreter that runs the code under test."""
        return self.workers[0].python

    def run(
        self,
        files: Mapping[str, str | bytes],
        command: Sequence[str],
        limits: Limits | None = None,
        stdin: bytes = b"",
        reserves_memory: bool = False,
    ) -> ExecutionResult:
        """Run one command over `files` in an empty working folder.

        The status `passed` only means that the command exited with status 0, which the code under
        test can bring about. Set `reserves_memory` for runtimes that reserve more memory than they
        use, such as Node: it bounds the data segment instead of the address space.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        bounds = limits or self.limits
        step = Command(command, bounds, stdin, reserves_memory=reserves_memory)
        answer = self._ask(exec_job([step], _checked(files)), bounds.timeout_s)
        return results.execution(answer["steps"][0], self.isolation.tier)

    def run_tests(
        self,
        code: str,
        language: Language,
        tests: Mapping[str, Json],
        limits: Limits | None = None,
    ) -> TestResult:
        """Run a task's tests against code.

        Kinds of tests:
            calls: `entry_point` with plain cases, or `source` with test functions that import from
                `candidate`; Python only. `before` and `after` are run in the module of the code.
                Tests may use `pytest.raises`, `approx`, `parametrize`, marks and `tmp_path`, and
                the standard library. Plain data and values such as dates
                are copied, and in-place changes to list, dict, set and bytearray arguments are
                copied back; instances, functions, iterators and coroutines are proxies, in both
                directions. Unmarked tests are functional.
            stdio: a whole program, any language; see `stdio`. All cases together may take the time
                limit, each but the last half of what is left. Building has limits of its own.
            pytest: an ordinary pytest file in the code's own interpreter; weaker, see
                `pytest_tests`.

        Raises:
            DataError: the tests are unusable, or there are none.
            SandboxError: the sandbox itself failed, or a tool is missing.
        """
        return self.submit_tests(code, language, tests, limits).result()

    def submit_tests(
        self,
        code: str,
        language: Language,
        tests: Mapping[str, Json],
        limits: Limits | None = None,
    ) -> "Future[TestResult]":
        """Like `run_tests`, without waiting, except while `WAITING_JOBS` jobs are unfinished."""
        self._check_open()
        self._places.acquire()
        try:
            future = self._threads.submit(
                self._test, code, language, dict(tests), limits or self.limits
            )
        except BaseException:
            self._places.release()
            raise
        future.add_done_callback(lambda _: self._places.release())
        return future

    def check_languages(self) -> dict[str, str]:
        """For each language whose tools are installed: "works", or why a control program failed."""
        found: dict[str, str] = {}
        for language in LANGUAGES:
            try:
                languages.tools_for(language)
            except SandboxError:
                continue
            try:
                self._controls.require(language, "stdio", self.limits)
                found[language] = "works"
            except SandboxError as error:
                found[language] = str(error)
        return found

    def describe(self) -> SandboxDescription:
        """What this sandbox offers, with the reason for every layer that is off."""
        return SandboxDescription(
            tier=self.isolation.tier,
            layers=dict(self.isolation.layers),
            promises=dict(self.isolation.promises),
            repairs=isolation_module.repairs(self.isolation),
            kernel=os.uname().release,
            python=self.python,
            toolchains=languages.describe_toolchains(),
            workers=len(self.workers),
            limits=self.limits,
        )

    def _test(
        self, code: str, language: Language, tests: Mapping[str, Json], limits: Limits
    ) -> TestResult:
        tests = without_padding(tests)
        plan = plan_tests(tests, language)
        standard = str(tests.get("standard") or "")
        self._controls.require(language, tests["kind"], limits, standard)
        started = time.monotonic()
        result = self._run_plan(plan, code, language, limits, standard)
        seconds = time.monotonic() - started
        if result.status != "passed" and language == "python":
            hint = why_missing(result.output, self.offer.modules)
            return replace(result, seconds=seconds, output=f"{hint}\n{result.output}".lstrip("\n"))
        return replace(result, seconds=seconds)

    def _run_control(
        self, code: str, language: Language, tests: Mapping[str, Json], limits: Limits
    ) -> TestResult:
        plan = plan_tests(tests, language)
        return self._run_plan(plan, code, language, limits, tests.get("standard") or "")

    def _run_plan(
        self,
        plan: Plan | list[stdio.Case] | pytest_tests.PytestPlan,
        code: str,
        language: Language,
        limits: Limits,
        standard: str,
    ) -> TestResult:
        tier = self.isolation.tier
        if isinstance(plan, pytest_tests.PytestPlan):
            return pytest_tests.run_pytest(plan, code, self.python, limits, self._ask, tier)
        if isinstance(plan, Plan):
            parts = [plan.before, code, plan.after]
            job = {"kind": "calls", "parts": parts, "limits": asdict(limits)}
            answer = self._ask(job, limits.timeout_s, plan.as_bytes())
            return results.judge(plan, answer, tier, limits.output_bytes)
        program = languages.program(code, language, self.python, limits, standard)
        built = programs.build(program, code, self._ask, self.builds)
        return programs.run_cases(program, built, plan, limits, self._ask, tier)

    def _ask(
        self, job: Mapping[str, Any], seconds: float, secret: bytes | None = None
    ) -> dict[str, Any]:
        self._check_open()
        worker = self._idle.get()
        try:
            return worker.ask(job, 3 * seconds + ANSWER_GRACE_S, secret)
        finally:
            self._idle.put(worker)

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxError("this sandbox is closed; open a new one")


def _checked(files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    """The files as bytes; raises DataError for a name that leaves the working folder."""
    for name in files:
        if not name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise DataError(f"a file's name must stay inside the working folder (got {name!r})")
    return {name: to_bytes(content) for name, content in files.items()}
