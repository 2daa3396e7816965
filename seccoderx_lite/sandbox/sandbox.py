"""`Sandbox`: runs model-written code and counts the tests it passes.

It protects the trainer's files, secrets, network, processes and verdicts from the code, as far as
the tier in use promises (`describe`). It does not protect against kernel bugs or side channels.
The code's own failure is a result; ours is a SandboxError.
"""

import base64
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import LANGUAGES, ExecutionResult, Json, Language, TestResult
from seccoderx_lite.sandbox import isolation as isolation_module
from seccoderx_lite.sandbox import languages, programs, results, shared, stdio
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.plan import plan_calls
from seccoderx_lite.sandbox.worker import (
    ANSWER_GRACE_S,
    Worker,
    settings_for,
)

WAITING_JOBS = 256
"""Submitting more than this many unfinished jobs waits for one to finish."""


class Sandbox:
    """A pool of warm workers; use it as a context manager, or call `close`."""

    def __init__(
        self,
        isolation: str = "confined",
        workers: int | None = None,
        limits: Limits | None = None,
        without: Sequence[str] = (),
        readable: Sequence[str] = (),
    ) -> None:
        """Prepare the pool, and find out how well this machine confines.

        Args:
            isolation: least tier accepted: strong, confined or limits-only.
            workers: jobs at once; the cores of this machine by default.
            limits: bounds of every run that does not bring its own.
            without: layers not to use, to see what the others hold: namespaces, bubblewrap,
                landlock, seccomp, uid or cgroup.
            readable: folders of installed tools that commands may read and run.

        Raises:
            SandboxError: this machine gives less isolation than asked for.
        """
        isolation_module.check_names(isolation, without)
        self.limits = limits or Limits()
        count = workers or len(os.sched_getaffinity(0))
        settings = settings_for(without, [*shared.site_folders(), *readable])
        self._workers = [Worker(settings) for _ in range(count)]
        self.isolation = self._find_isolation(isolation)
        """What confines the jobs of this sandbox."""
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sandbox")
        self._places = threading.BoundedSemaphore(WAITING_JOBS)
        self._builds = programs.BuildCache()
        self._closed = False

    def _find_isolation(self, wanted: str) -> isolation_module.Isolation:
        try:
            found = isolation_module.find(self._workers[0])
            isolation_module.require(wanted, found)
        except BaseException:
            self._workers[0].close()
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

    def close(self) -> None:
        """Cancel what has not begun, wait for what runs, end all processes."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def run(
        self,
        files: Mapping[str, str | bytes],
        command: Sequence[str],
        limits: Limits | None = None,
        stdin: bytes = b"",
        reserves_memory: bool = False,
    ) -> ExecutionResult:
        """Run one command over files in a fresh scratch folder, which is its working folder.

        `passed` means no more than that the command ended by itself with exit status 0. Runtimes
        that reserve more memory than they use, such as Node, need `reserves_memory`: then the data
        segment is bounded instead of the address space.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        bounds = limits or self.limits
        step = {
            "command": list(command),
            "limits": programs.as_dict(bounds),
            "stdin": base64.b64encode(stdin).decode(),
            "data_only": reserves_memory,
        }
        request = {"kind": "exec", "files": _encode_files(files), "steps": [step]}
        answer = self._ask(request, bounds.timeout_s)
        return results.execution(answer["steps"][0], self.isolation.tier)

    def run_tests(
        self,
        code: str,
        language: Language,
        tests: Mapping[str, Json],
        limits: Limits | None = None,
    ) -> TestResult:
        """Run a task's tests against code; the status is the code's, never ours.

        Kinds of tests:
            calls: `entry_point` with plain cases, or `source` with test functions that import from
                `candidate`; Python only. Tests may use `pytest.raises`, `approx`, `parametrize`,
                marks and `tmp_path`, and the standard library. Arguments and results are copied;
                in-place changes to list, dict, set and bytearray arguments are copied back;
                iterators arrive as lists. Unmarked tests are functional.
            stdio: a whole program, any language; see `stdio`. Each case may take the time limit,
                all together four times as much.
            pytest: an ordinary pytest file in the code's own interpreter; weaker, see `shared`.

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
        """Like `run_tests`, at once; waits only while `WAITING_JOBS` jobs are unfinished."""
        if self._closed:
            raise SandboxError("this sandbox is closed; make a new one")
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

    def describe(self) -> dict[str, Any]:
        """Tier, layers with the reason where one is off, and toolchains."""
        return {
            **isolation_module.describe(self.isolation),
            "python": self._workers[0].python,
            "toolchains": languages.describe_toolchains(),
            "workers": len(self._workers),
            "limits": programs.as_dict(self.limits),
        }

    def _test(
        self, code: str, language: Language, tests: Mapping[str, Json], limits: Limits
    ) -> TestResult:
        if language not in LANGUAGES:
            raise DataError(f"language must be one of {', '.join(LANGUAGES)} (got {language!r})")
        started = time.monotonic()
        kind = tests.get("kind")
        if kind == "stdio":
            result = self._test_program(code, language, tests, limits)
        elif kind == "calls":
            result = self._test_calls(code, language, tests, limits)
        elif kind == "pytest":
            result = self._test_shared(code, language, tests, limits)
        else:
            raise DataError(f"tests of kind {kind!r} are not known; known: calls, stdio, pytest")
        return results.with_seconds(result, time.monotonic() - started)

    def _test_calls(
        self, code: str, language: Language, tests: Mapping[str, Json], limits: Limits
    ) -> TestResult:
        if language != "python":
            raise DataError(f"calls tests are for Python; use stdio tests for {language}")
        plan = plan_calls(tests)
        request = {"kind": "calls", "code": code, "limits": programs.as_dict(limits)}
        answer = self._ask(request, limits.timeout_s, results.secret_of(plan))
        return results.judge(plan, answer, self.isolation.tier, limits.output_bytes)

    def _test_shared(
        self, code: str, language: Language, tests: Mapping[str, Json], limits: Limits
    ) -> TestResult:
        if language != "python":
            raise DataError(f"pytest tests are for Python; use stdio tests for {language}")
        plan = shared.plan_shared(tests)
        python = self._workers[0].python
        return shared.run_shared(plan, code, python, limits, self._ask, self.isolation.tier)

    def _test_program(
        self, code: str, language: Language, tests: Mapping[str, Json], limits: Limits
    ) -> TestResult:
        cases = stdio.plan_stdio(tests)
        program = languages.program(code, language, self._workers[0].python, limits)
        built = programs.build(program, code, self._ask, self._builds)
        tier = self.isolation.tier
        return programs.run_cases(program, built, cases, limits, self._ask, tier)

    def _ask(
        self, request: Mapping[str, Any], seconds: float, secret: bytes | None = None
    ) -> dict[str, Any]:
        if self._closed:
            raise SandboxError("this sandbox is closed; make a new one")
        worker = self._idle.get()
        try:
            return worker.ask(request, 3 * seconds + ANSWER_GRACE_S, secret)
        finally:
            self._idle.put(worker)


def _encode_files(files: Mapping[str, str | bytes]) -> dict[str, str]:
    """Files as base64 by relative name; DataError for a name that leaves the folder."""
    encoded = {}
    for name, content in files.items():
        parts = name.split("/")
        if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise DataError(f"a file's name must stay inside the scratch folder (got {name!r})")
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        encoded[name] = base64.b64encode(data).decode()
    return encoded
