"""Tests of kind `pytest`: tests and code share one interpreter. Weaker than `calls` by nature.

What is done about it: no conftest and no plugins, the code is imported before the tests arrive,
reports carry a secret, every expected test must be reported, skips are failures, the exit status is
ignored, and decoy tests that must fail are mixed in: where one passes, the result is `tampered`.
A determined program can still forge a pass. Keep this kind for outside suites that need it.
"""

import base64
import importlib.util
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import ExecutionResult, Json, TestResult
from seccoderx_lite.sandbox import programs, results
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.plan import Plan, groups_in
from seccoderx_lite.sandbox.worker import JAIL_FOLDER

NOTICE = "integrity: weak (tests and code share an interpreter)"
REPORT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """A test file, the name under which it imports the candidate, and files beside it."""

    plan: Plan
    module: str
    files: Mapping[str, str]


def site_folders() -> tuple[str, ...]:
    """The folder of the packages that pytest is installed in; empty without pytest."""
    found = importlib.util.find_spec("pytest")
    if found is None or found.origin is None:
        return ()
    return (os.path.dirname(os.path.dirname(os.path.realpath(found.origin))),)


def plan_shared(tests: Mapping[str, Json]) -> SharedPlan:
    """The plan of `pytest` tests; DataError if they are unusable."""
    if unknown := sorted(set(tests) - {"kind", "source", "module", "files"}):
        raise DataError(f"pytest tests: unknown key {unknown[0]!r}")
    source, module = tests.get("source"), tests.get("module", "candidate")
    if not isinstance(source, str):
        raise DataError("pytest tests: source must be text")
    if not isinstance(module, str) or not module.isidentifier():
        raise DataError(f"pytest tests: module must be a module's name (got {module!r})")
    groups = groups_in(source, any_fixture=True)
    return SharedPlan(Plan(groups, source=source), module, dict(tests.get("files") or {}))


def run_shared(
    shared: SharedPlan, code: str, python: str, limits: Limits, ask: programs.Ask, tier: str
) -> TestResult:
    """Run the test file; a test passes when all its rows were reported and passed."""
    site = site_folders()
    if not site:
        raise SandboxError("unscored: no pytest; install it to run tests of kind pytest")
    secret = secrets.token_hex(16)
    source, decoys = _with_decoys(shared.plan.source or "", secret)
    told = {"source": source, "secret": secret, "site": site}
    bounds = {**programs.as_dict(limits), "output_bytes": limits.output_bytes + REPORT_BYTES}
    files = {**shared.files, f"{shared.module}.py": code}
    request = {
        "kind": "exec",
        "files": {name: _base64(text) for name, text in files.items()},
        "steps": [
            {
                "command": [python, "-s", "-P", "-B", "-c", _driver(), shared.module],
                "limits": bounds,
                "stdin": _base64(json.dumps(told)),
            }
        ],
    }
    outcome = results.execution(ask(request, limits.timeout_s)["steps"][0], tier)
    return _judge(shared.plan, _messages(outcome.stdout, secret), decoys, outcome, limits)


def _driver() -> str:
    return (JAIL_FOLDER / "pytest_driver.py").read_text(encoding="utf-8")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _with_decoys(source: str, secret: str) -> tuple[str, set[str]]:
    """The test text with three tests that must fail, under names that cannot be told apart."""
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
        notes.append(f"the candidate cannot be loaded: {': '.join(broken)}")
    passed = {name for name, cause in causes.items() if cause == "passed"}
    return TestResult(
        status=results.gravest(set(causes.values()) - {"passed"}),
        functional_passed=results.count(plan, passed, "functionality"),
        functional_total=plan.total("functionality"),
        security_passed=results.count(plan, passed, "security"),
        security_total=plan.total("security"),
        output="\n".join([*notes, outcome.stderr])[: max(limits.output_bytes, 2000)],
        isolation=outcome.isolation,
    )


def _base_name(node_id: str) -> str:
    """`test_file.py::TestA::test_b[row]` -> `TestA.test_b`."""
    return ".".join(node_id.split("[", 1)[0].split("::")[1:])


def _cause_of_missing(broken: list[str] | None, outcome: ExecutionResult) -> str:
    """What a test that was not reported counts as."""
    if broken:
        return "compile_error" if broken[0] in ("SyntaxError", "IndentationError") else "failed"
    return outcome.status if outcome.status not in ("passed", "failed") else "crashed"


def _cause(phases: list[tuple[str, str]] | None, missing: str) -> str:
    if phases is None or not any(when == "call" for when, _ in phases):
        return "failed" if phases else missing
    counts = [sum(when == phase for when, _ in phases) for phase in ("setup", "call", "teardown")]
    all_passed = all(result == "passed" for _, result in phases)
    return "passed" if all_passed and len(set(counts)) == 1 else "failed"
