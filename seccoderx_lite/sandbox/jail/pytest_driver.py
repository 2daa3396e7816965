"""Runs a pytest file and the candidate in one interpreter; a separate program inside a jail.

The candidate is imported first; only then are tests and the secret read from standard input. Every
report is a line that starts with the secret. A determined candidate can still forge reports,
because it shares this process: prefer `calls` tests for rewards.
"""

import importlib
import json
import os
import sys
from typing import Any


class Reporter:
    """A pytest plugin that reports every phase of every test."""

    def __init__(self, descriptor: int, secret: str) -> None:
        self._descriptor, self._secret = descriptor, secret

    def send(self, message: dict[str, Any]) -> None:
        """Write one line that starts with the secret."""
        os.write(self._descriptor, f"\n{self._secret} {json.dumps(message)}\n".encode())

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Report the outcome of a phase; an expected failure or a skip is not a pass."""
        outcome = "other" if hasattr(report, "wasxfail") else report.outcome
        note = "" if outcome == "passed" else str(report.longrepr)[-400:]
        self.send({"id": report.nodeid, "when": report.when, "outcome": outcome, "note": note})


def main(module_name: str) -> None:
    """Import the candidate, read the tests, run them."""
    report_fd = os.dup(1)
    sys.path.insert(0, os.getcwd())
    failure = _import(module_name)
    plan = json.loads(sys.stdin.buffer.read())
    sys.path[1:1] = plan["site"]
    reporter = Reporter(report_fd, plan["secret"])
    if failure:
        reporter.send({"broken": failure})
        return
    with open("test_file.py", "w", encoding="utf-8") as file:
        file.write(plan["source"])
    pytest = importlib.import_module("pytest")
    options = f"-q --noconftest -c {os.devnull} --rootdir . --confcutdir . -p no:cacheprovider"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    pytest.main([*options.split(), "--import-mode=importlib", "test_file.py"], plugins=[reporter])
    reporter.send({"done": True})


def _import(name: str) -> list[str]:
    """Import the candidate; returns type and message of the exception, if any."""
    try:
        importlib.import_module(name)
    except BaseException as error:  # a candidate may raise anything while it loads
        return [type(error).__name__, str(error)[:400]]
    return []


if __name__ == "__main__":
    main(sys.argv[1])
