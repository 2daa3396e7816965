"""Builds a CWEval task and runs its tests; a separate program inside the sandbox.

A Python candidate is imported before the secret is read; compiled and Node candidates run as
separate processes. Every report is a line that starts with the secret. Like all tests that share a
sandbox with the code they test, they can be forged by a determined program.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from typing import Any


class Reporter:
    """A pytest plugin that reports every test with its marker, and limits its time."""

    def __init__(self, descriptor: int, secret: str, seconds: float, unsafe: bool) -> None:
        self._descriptor, self._secret = descriptor, secret
        self._seconds, self._unsafe = seconds, unsafe

    def send(self, message: dict[str, Any]) -> None:
        """Write one report line."""
        os.write(self._descriptor, f"\n{self._secret} {json.dumps(message)}\n".encode())

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Select and report the marked tests, or all tests of the insecure solution."""
        items[:] = [
            item
            for item in items
            if is_unsafe(item.name) == self._unsafe and (self._unsafe or _marker(item))
        ]
        for item in items:
            self.send({"test": item.name, "marker": _marker(item)})

    def pytest_runtest_setup(self) -> None:
        signal.signal(signal.SIGALRM, _raise_timeout)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def pytest_runtest_teardown(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Report the outcome of a phase; a skip or an expected failure is not a pass."""
        outcome = "other" if hasattr(report, "wasxfail") else report.outcome
        if report.when == "call" or outcome != "passed":
            note = "" if outcome == "passed" else str(report.longrepr)[-400:]
            name = report.nodeid.split("::", 1)[1]
            self.send({"ran": name, "outcome": outcome, "note": note})

    def pytest_collectreport(self, report: Any) -> None:
        """Report why the test file cannot be loaded."""
        if report.failed:
            self.send({"broken": str(report.longrepr)[-600:]})


def is_unsafe(name: str) -> bool:
    """Return True for a test of the insecure solution."""
    return "_unsafe" in name or "_insecure" in name


def _marker(item: Any) -> str:
    """The marker of a test; "" if it has none and does not count for a completion."""
    names = ("security", "functionality")
    return next((name for name in names if item.get_closest_marker(name)), "")


def _raise_timeout(number: int, frame: object) -> None:
    raise TimeoutError("the test took too long")


FOLDERS = ("GOMODCACHE", "GOCACHE")
"""Variables that name a folder, and are left out where this user cannot read it."""


def _environment(tools: list[str], own: dict[str, str]) -> dict[str, str]:
    usable = {
        name: value
        for name, value in own.items()
        if name not in FOLDERS or os.access(value, os.R_OK | os.X_OK)
    }
    return {
        "PATH": ":".join([*tools, os.environ.get("PATH", "/usr/bin:/bin")]),
        "ASAN_OPTIONS": "detect_leaks=0:hard_rss_limit_mb=2048",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        **usable,
    }


def _build(commands: list[list[str]]) -> str:
    """Run the build commands; return the message of the first that fails, or ""."""
    os.makedirs("compiled", exist_ok=True)
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            return (done.stderr or done.stdout or f"{command[0]} failed")[:2000]
    return ""


def main(candidate: str) -> None:
    """Import or build the candidate, read the plan, run the tests."""
    report_fd = os.dup(1)
    sys.path[:0] = [os.getcwd(), *sys.argv[2:]]
    failure = ""
    if candidate:
        try:
            importlib.import_module(candidate)
        except BaseException as error:  # a candidate may raise anything while it loads
            failure = f"{type(error).__name__}: {error}"
    plan = json.loads(sys.stdin.buffer.read())
    reporter = Reporter(report_fd, plan["secret"], plan["seconds"], plan["unsafe"])
    os.environ.update(_environment(plan["tools"], plan["environment"]))
    failure = failure or _build(plan["build"])
    if failure:
        reporter.send({"unbuilt": failure})
        return
    with open(plan["file"], "w", encoding="utf-8") as file:
        file.write(plan["source"])
    pytest = importlib.import_module("pytest")
    options = [
        *("-q", "--noconftest", "-c", os.devnull, "--rootdir", "."),
        *("-p", "no:cacheprovider", "-W", "ignore", "--import-mode=importlib"),
        plan["file"],
    ]
    pytest.main(options, plugins=[reporter])
    reporter.send({"done": True})


if __name__ == "__main__":
    main(sys.argv[1])
