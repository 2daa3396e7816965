"""Tests of kind `pytest`: tests and code share one interpreter, so they are weaker than `calls`.

Against forged results: no conftest and no plugins are loaded, the code is imported before the tests
arrive, reports carry a secret, every expected test must be reported, skips are failures, and the
exit status is ignored. Decoy tests that must fail are mixed in: if one passes, the result is
`tampered`. A determined program can still forge a pass. Use this kind only for existing suites that
need it.
"""

import importlib.util
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import ExecutionResult, Json, TestResult
from seccoderx_lite.sandbox import results
from seccoderx_lite.sandbox.calls_tests import Plan, check_file, check_keys, groups_in
from seccoderx_lite.sandbox.jobs import Ask, Command, exec_job, to_bytes
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.worker import JAIL_FOLDER

NOTICE = "integrity: weak (tests and code share an interpreter)"
REPORT_BYTES = 4 << 20
"""Room for reports, which are printed like the code's own output."""


@dataclass(frozen=True, slots=True)
class PytestPlan:
    """A test file, the name under which it imports the candidate, and the files it needs."""

    plan: Plan
    module: str
    files: Mapping[str, str]


def site_folders() -> tuple[str, ...]:
    """The site-packages folder that holds pytest; empty if pytest is not installed."""
    found = importlib.util.find_spec("pytest")
    if found is None or found.origin is None:
        return ()
    return (os.path.dirname(os.path.dirname(os.path.realpath(found.origin))),)


def plan_pytest(tests: Mapping[str, Json]) -> PytestPlan:
    """The plan of `pytest` tests; raises DataError if they are unusable."""
    check_keys("pytest tests", tests, {"kind", "source", "module", "files"})
    source, module = tests.get("source"), tests.get("module", "candidate")
    if not isinstance(source, str):
        raise DataError(f"pytest tests: source must be text (got {type(source).__name__})")
    if not isinstance(module, str) or not module.isidentifier():
        raise DataError(f"pytest tests: module must be the name of a module (got {module!r})")
    files = tests.get("files") or {}
    if not isinstance(files, Mapping):
        raise DataError("pytest tests: files must be an object of names and texts")
    for name, text in files.items():
        check_file("pytest tests: files", name, text)
    groups = groups_in(source, any_fixture=True)
    return PytestPlan(Plan(groups, source=source), module, dict(files))


def run_pytest(
    tests: PytestPlan, code: str, python: str, limits: Limits, ask: Ask, tier: str
) -> TestResult:
    """Run the test file; a test passes if all its parameter rows are reported as passed."""
    site = site_folders()
    if not site:
        raise SandboxError("unscored: pytest is not installed; install it to run pytest tests")
    secret = secrets.token_hex(16)
    source, decoys = _with_decoys(tests.plan.source or "", secret)
    stdin = json.dumps({"source": source, "secret": secret, "site": site})
    driver = (JAIL_FOLDER / "pytest_driver.py").read_text(encoding="utf-8")
    command = Command(
        [python, "-s", "-P", "-B", "-c", driver, tests.module],
        replace(limits, output_bytes=limits.output_bytes + REPORT_BYTES),
        stdin=to_bytes(stdin),
    )
    files = {**tests.files, f"{tests.module}.py": code}
    job = exec_job([command], {name: to_bytes(text) for name, text in files.items()})
    outcome = results.execution(ask(job, limits.timeout_s)["steps"][0], tier)
    messages = _messages(outcome.stdout, secret)
    return _judge(tests.plan, messages, decoys, outcome, limits)


def _with_decoys(source: str, secret: str) -> tuple[str, set[str]]:
    """The test text with three tests that must fail, under names that look like any other."""
    names = [f"test_case_{secrets.token_hex(4)}" for _ in range(3)]
    bodies = [
        f"assert '{secret[:8]}' == '{secret[8:16]}'",
        "raise RuntimeError",
        "import pytest\n    with pytest.raises(ZeroDivisionError):\n        pass",
    ]
    texts = [f"\n\ndef {name}():\n    {body}\n" for name, body in zip(names, bodies, strict=True)]
    return source + "".join(texts), set(names)


def _messages(stdout: str, secret: str) -> list[dict[str, Any]]:
    found = []
    for line in stdout.splitlines():
        if line.startswith(secret + " "):
            try:
                found.append(json.loads(line[len(secret) + 1 :]))
            except ValueError:
                continue
    return found


def _judge(
    plan: Plan,
    messages: list[dict[str, Any]],
    decoys: set[str],
    outcome: ExecutionResult,
    limits: Limits,
) -> TestResult:
    phases: dict[str, list[tuple[str, str]]] = {}
    notes = [NOTICE]
    broken = next((message["broken"] for message in messages if "broken" in message), None)
    for message in messages:
        if "id" in message:
            name = _base_name(message["id"])
            phases.setdefault(name, []).append((message["when"], message["outcome"]))
            if message["outcome"] != "passed" and name not in decoys:
                notes.append(f"{name}: {message['note']}")
    missing = _cause_of_missing(broken, outcome)
    causes = {name: _cause(phases.get(name), missing) for name in plan.groups}
    if any(_cause(phases.get(name), "failed") == "passed" for name in decoys):
        causes = dict.fromkeys(plan.groups, "tampered")
        notes.append("a test that must fail was reported as passed")
    if broken:
        notes.append(f"the candidate cannot be imported: {': '.join(broken)}")
    notes.append(outcome.stderr)
    result = results.test_result(plan, causes, notes, limits.output_bytes, outcome.isolation)
    return replace(result, loads=not broken)


def _base_name(node_id: str) -> str:
    """`test_file.py::TestA::test_b[row]` -> `TestA.test_b`."""
    return ".".join(node_id.split("[", 1)[0].split("::")[1:])


def _cause_of_missing(broken: list[str] | None, outcome: ExecutionResult) -> str:
    """The cause of a test that was not reported."""
    if broken:
        return "compile_error" if broken[0] in ("SyntaxError", "IndentationError") else "failed"
    return outcome.status if outcome.status not in ("passed", "failed") else "crashed"


def _cause(phases: list[tuple[str, str]] | None, missing: str) -> str:
    """Either "passed" or why not; each row must report setup, call and teardown as passed."""
    if phases is None or not any(when == "call" for when, _ in phases):
        return "failed" if phases else missing
    counts = [sum(when == phase for when, _ in phases) for phase in ("setup", "call", "teardown")]
    all_passed = all(result == "passed" for _, result in phases)
    return "passed" if all_passed and len(set(counts)) == 1 else "failed"
