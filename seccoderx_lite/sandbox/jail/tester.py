"""Runs the tests of one job against proxies of the candidate, and decides which pass.

The candidate's code never runs in this process, and its text never enters it. Each test is
reported to the supervisor as it ends; the trainer knows in advance how many reports must come.
"""

import ast
import enum
import itertools
import json
import math
import os
import re
import socket
import sys
import traceback
import types
from collections import Counter, deque
from collections.abc import Callable
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from .codec import MAX_ITEMS
from .errors import BadTest, CandidateGone
from .link import Link
from .proxy import CandidateModule
from .pytest_shim import make_pytest, rows_of
from .remote import Remote

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
        try:
            report = {"test": name, **_run(test, link)}
        except BadTest as error:
            report = {"bad_tests": f"{name}: {error}"}
        _send(control, report)
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
    except BadTest:
        raise
    except BaseException as error:  # whatever a test raises is a failed test
        _check_patterns(error)
        cause, note = "failed", _note(error)
    trouble = link.trouble
    if trouble and (cause != "passed" or trouble.cause != "memory"):
        cause, note = trouble.cause, note or str(trouble)
    return {"cause": cause, "note": note[:NOTE_CHARACTERS], "loads": link.loads}


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
        exec(_compiled(plan["source"]), module.__dict__)
    except BadTest:
        raise
    except BaseException as error:  # the test text may raise anything
        if link.trouble or link.was_called:
            link.broken = link.broken or link.trouble or CandidateGone("failed", _note(error))
            return [(name, lambda: _raise(link.broken)) for name in plan["tests"]]
        raise BadTest(f"the test text cannot be loaded: {_note(error)}") from None
    return [(name, _test_function(module, name, work)) for name in plan["tests"]]


def _compiled(source: str) -> types.CodeType:
    """The test text, with classes compared by `==`: a proxy's type is not the class itself."""
    tree: Any = source
    if _TYPE_IS.search(source):
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(map(_is_a_type, ast.iter_child_nodes(node))):
                node.ops = [_EQUAL.get(type(op), type(op))() for op in node.ops]
    return compile(tree, "tests.py", "exec", dont_inherit=True)


_TYPE_IS = re.compile(r"(?:\btype\(|__class__).* is |\bis (?:not )?(?:type\(|.*__class__)")
_EQUAL: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Is: ast.Eq, ast.IsNot: ast.NotEq}


def _is_a_type(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "type" and len(node.args) == 1
    return isinstance(node, ast.Attribute) and node.attr == "__class__"


def _check_patterns(error: BaseException) -> None:
    """Raise BadTest for a class of the candidate in a pattern of `match`."""
    frames = traceback.extract_tb(error.__traceback__)
    is_of_tests = bool(frames) and frames[-1].filename == "tests.py"
    if is_of_tests and str(error) == "called match pattern must be a type":
        raise BadTest("a class of the candidate cannot be a pattern of `match`")


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
    module = CandidateModule(link)
    entry_point = plan["entry_point"]

    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(module, entry_point)(*args, **kwargs)

    return [
        (name, lambda case=case: _run_case(function, case))
        for name, case in zip(plan["tests"], plan["cases"], strict=True)
    ]


def _run_case(function: Callable[..., Any], case: dict[str, Any]) -> None:
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

    A tuple equals a list; a boolean only a boolean; numbers agree to 1e-9; nan equals nan; an
    object of a dataclass or a named tuple also equals the object of its fields, an enum member its
    value, and a date, a path and the like its text. Keys that JSON cannot have equal their text.
    """
    value = _as_json(value, expected)
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int | float) and isinstance(expected, int | float):
        return _same_number(value, expected)
    if type(value) is not type(expected):
        return False
    if isinstance(value, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict):
        found = {_key(key): item for key, item in value.items()}
        if len(found) != len(value) or found.keys() != expected.keys():
            return False
        return all(same(found[key], expected[key]) for key in found)
    return bool(value == expected)


def _as_json(value: Any, expected: Any) -> Any:
    """What JSON can say of a value that is not JSON itself."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Remote):
        return _remote_as_json(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Counter):
        return dict(value)
    if isinstance(value, tuple):
        fields = getattr(type(value), "_fields", ())
        is_record = isinstance(expected, dict) and len(fields) == len(value)
        return dict(zip(fields, value, strict=True)) if is_record else list(value)
    if isinstance(value, set | frozenset | deque) and isinstance(expected, list):
        return _sorted(value) if not isinstance(value, deque) else list(value)
    if isinstance(expected, str) and isinstance(value, _HAVE_TEXT):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    if isinstance(expected, int | float) and isinstance(value, Decimal | Fraction):
        return float(value) if isinstance(expected, float) or value % 1 else int(value)
    return value


_HAVE_TEXT = (date, time_of_day, Decimal, Fraction, PurePath, UUID)


def _remote_as_json(value: Remote) -> Any:
    info = value._remote_info
    if "__next__" in info.specials:
        return list(itertools.islice(value, MAX_ITEMS))
    if info.fields:
        return {name: getattr(value, name) for name in info.fields}
    return value


def _sorted(items: Any) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:
        return list(items)


def _key(key: Any) -> Any:
    """A key as JSON writes it; true, false and null as in JSON."""
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return key
    return json.dumps(key) if isinstance(key, int | float | None) else str(key)


def _same_number(value: float, expected: float) -> bool:
    if isinstance(value, int) and isinstance(expected, int):
        return value == expected
    if value != value or expected != expected:
        return value != value and expected != expected
    try:
        return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)
    except OverflowError:
        return False
