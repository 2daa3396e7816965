"""Runs the tests of one job against proxies of the candidate, and decides which pass.

The candidate's code never runs in this process, and its text never enters it. Each test is
reported to the supervisor as it ends; the trainer knows in advance how many reports must come.
"""

import json
import math
import os
import socket
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .proxy import CandidateGone, CandidateModule, FunctionProxy, Link
from .pytest_shim import BadTest, make_pytest, rows_of

NOTE_CHARACTERS = 400


def main(control_fd: int, tests_fd: int, channel_fd: int, deadline: float, work: str) -> None:
    """Read the tests from `tests_fd`, run them, report on the socket `control_fd`.

    The first candidate waits at the other end of `channel_fd` for the request to load.
    """
    with open(tests_fd, "rb") as file:
        plan = json.loads(file.read())
    control = socket.socket(fileno=control_fd)
    channel = socket.socket(fileno=channel_fd)
    for descriptor in (control_fd, channel_fd):
        os.set_inheritable(descriptor, False)
    link = Link(control, channel, deadline)
    link.allow(0.5)
    try:
        tests = _load_source(plan, link, work) if "source" in plan else _load_cases(plan, link)
    except BadTest as error:
        _send(control, {"bad_tests": str(error)})
        return
    for place, (name, test) in enumerate(tests):
        link.allow(0.5 if place + 1 < len(tests) else 1.0)
        _send(control, {"test": name, **_run(test, link)})
    _send(control, {"done": True})


def _send(control: socket.socket, message: dict[str, Any]) -> None:
    control.send(json.dumps(message).encode())


def _run(test: Callable[[], None], link: Link) -> dict[str, Any]:
    """Run one test; it also fails if the candidate broke and the test caught that exception."""
    link.trouble = None
    cause, note = "passed", ""
    try:
        test()
    except CandidateGone as gone:
        cause, note = gone.cause, str(gone)
    except BaseException as error:  # whatever a test raises is a failed test
        cause, note = "failed", _note(error)
    trouble = link.trouble
    if trouble and (cause != "passed" or trouble.cause != "memory"):
        cause, note = trouble.cause, note or str(trouble)
    return {"cause": cause, "note": note[:NOTE_CHARACTERS]}


def _note(error: BaseException) -> str:
    """The failing line of the test, and the exception."""
    frames = traceback.extract_tb(error.__traceback__)
    where = next((f for f in reversed(frames) if f.filename == "tests.py"), None)
    place = f"line {where.lineno}: " if where else ""
    try:
        return f"{place}{type(error).__name__}: {str(error)[:NOTE_CHARACTERS]}"
    except BaseException:  # __str__ of a class in the test text may raise anything
        return f"{place}{type(error).__name__}"


def _load_source(plan: dict[str, Any], link: Link, work: str) -> list[tuple[str, Any]]:
    """Execute the test text; returns its tests, in the order of the plan."""
    pytest = make_pytest()
    sys.modules["pytest"] = pytest
    sys.modules["candidate"] = CandidateModule(link)
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    try:
        exec(compile(plan["source"], "tests.py", "exec", dont_inherit=True), module.__dict__)
    except BadTest:
        raise
    except BaseException as error:  # the test text may raise anything
        if link.trouble or link.was_called:
            link.broken = link.broken or link.trouble or CandidateGone("failed", _note(error))
            return [(name, lambda: _raise(link.broken)) for name in plan["tests"]]
        raise BadTest(f"the test text cannot be loaded: {_note(error)}") from None
    return [(name, _test_function(module, name, work)) for name in plan["tests"]]


def _raise(error: BaseException | None) -> None:
    raise error or CandidateGone("failed", "the candidate failed while the tests were loaded")


def _test_function(module: types.ModuleType, name: str, work: str) -> Callable[[], None]:
    """A function that runs one test for each parameter row, with a new `tmp_path` each."""
    owner, _, method = name.rpartition(".")

    def run() -> None:
        function = getattr(module, method) if not owner else None
        if function is None:
            function = getattr(getattr(module, owner)(), method)
        plain = getattr(function, "__func__", function)
        wanted = plain.__code__.co_varnames[: plain.__code__.co_argcount]
        for number, row in enumerate(rows_of(function)):
            arguments = dict(row)
            if "tmp_path" in wanted:
                folder = Path(work, "tests", f"{method}{number}")
                folder.mkdir(parents=True)
                arguments["tmp_path"] = folder
            function(**arguments)

    return run


def _load_cases(plan: dict[str, Any], link: Link) -> list[tuple[str, Any]]:
    function = FunctionProxy(link, plan["entry_point"])
    return [
        (name, lambda case=case: _run_case(function, case))
        for name, case in zip(plan["tests"], plan["cases"], strict=True)
    ]


def _run_case(function: FunctionProxy, case: dict[str, Any]) -> None:
    try:
        result = function(*case.get("args", []), **case.get("kwargs", {}))
    except Exception as error:  # the case says which exception is right
        expected = case.get("raises")
        if expected and expected in [kind.__name__ for kind in type(error).__mro__]:
            return
        raise
    if "raises" in case:
        raise AssertionError(f"returned {result!r:.200}, expected {case['raises']}")
    if not same(result, case["expect"]):
        raise AssertionError(f"returned {result!r:.200}, expected {case['expect']!r:.200}")


def same(value: Any, expected: Any) -> bool:
    """Whether a returned value equals one from JSON.

    A tuple equals a list; a boolean only a boolean; numbers agree to 1e-9; nan equals nan.
    """
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int | float) and isinstance(expected, int | float):
        return _same_number(value, expected)
    if type(value) is not type(expected):
        return False
    if isinstance(value, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict):
        return value.keys() == expected.keys() and all(same(value[k], expected[k]) for k in value)
    return bool(value == expected)


def _same_number(value: float, expected: float) -> bool:
    if isinstance(value, int) and isinstance(expected, int):
        return value == expected
    if value != value or expected != expected:
        return value != value and expected != expected
    try:
        return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)
    except OverflowError:
        return False
