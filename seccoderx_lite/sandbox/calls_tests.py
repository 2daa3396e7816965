"""The tests that a task must run, read from the test text before anything runs.

The totals of a result come from here, never from a process that the candidate could reach.
"""

import ast
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json

Group = Literal["functionality", "security"]
GROUPS: tuple[Group, ...] = ("functionality", "security")
_KNOWN_ARGUMENTS = {"self", "tmp_path"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The tests of one task: name -> group, in the order in which they run.

    `calls` tests have either a `source` with test functions, or an `entry_point` with `cases`.
    """

    groups: Mapping[str, Group]
    source: str | None = None
    entry_point: str | None = None
    cases: tuple[Mapping[str, Json], ...] = field(default=())
    before: str = ""
    """Runs in the candidate's module before its code."""
    after: str = ""
    """Runs in the candidate's module after its code, and is part of it."""

    def count(self, group: Group, among: Collection[str] | None = None) -> int:
        """The number of tests in a group (default: among all tests)."""
        return sum(self.groups[name] == group for name in (self.groups if among is None else among))

    def as_bytes(self) -> bytes:
        """The tests as JSON for the tester, which alone may read them."""
        content: dict[str, Json] = {"tests": list(self.groups)}
        if self.source is not None:
            content["source"] = self.source
        else:
            content |= {"entry_point": self.entry_point, "cases": self.cases}
        return json.dumps(content).encode()


def check_keys(what: str, given: Mapping[str, Json], known: Collection[str]) -> None:
    """Raise DataError for a key that `what` does not have."""
    if unknown := sorted(set(given) - set(known)):
        raise DataError(f"{what}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")


def listed(tests: Mapping[str, Json], group: str, kind: str) -> list[Json]:
    """The cases of a group; raises DataError if they are not a list."""
    cases = tests.get(group)
    if cases is not None and not isinstance(cases, list):
        raise DataError(f"{kind} tests: {group} must be a list (got {type(cases).__name__})")
    return cases or []


def check_file(what: str, name: str, content: Json) -> None:
    """Raise DataError for a file outside the working folder, or one that is not text."""
    if not name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise DataError(f"{what}: a file's name must stay inside the working folder (got {name!r})")
    if not isinstance(content, str | bytes):
        raise DataError(f"{what}: {name} must be text (got {type(content).__name__})")


def plan_calls(tests: Mapping[str, Json]) -> Plan:
    """The plan of `calls` tests; raises DataError if they are unusable."""
    check_keys("calls tests", tests, {"kind", "source", "entry_point", "before", "after", *GROUPS})
    source = tests.get("source")
    before, after = (_python_text(tests, key) for key in ("before", "after"))
    if source is not None:
        if any(tests.get(key) for key in ("entry_point", *GROUPS)):
            raise DataError(
                "calls tests: `source` conflicts with `entry_point` and cases; keep only one"
            )
        if not isinstance(source, str):
            raise DataError(f"calls tests: source must be text (got {type(source).__name__})")
        return Plan(groups_in(source), source=source, before=before, after=after)
    return replace(_plan_cases(tests), before=before, after=after)


def _python_text(tests: Mapping[str, Json], key: str) -> str:
    text = tests.get(key) or ""
    if not isinstance(text, str):
        raise DataError(f"calls tests: {key} must be text (got {type(text).__name__})")
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"calls tests: {key} is not Python: {error}") from error
    return text


def _plan_cases(tests: Mapping[str, Json]) -> Plan:
    entry_point = tests.get("entry_point")
    if not isinstance(entry_point, str) or not entry_point.isidentifier():
        raise DataError(f"calls tests: entry_point must be a function's name (got {entry_point!r})")
    groups: dict[str, Group] = {}
    cases: list[Mapping[str, Json]] = []
    for group in GROUPS:
        for number, case in enumerate(listed(tests, group, "calls")):
            _check_case(f"{group}[{number}]", case)
            groups[f"{group}[{number}]"] = group
            cases.append(case)
    if not cases:
        raise DataError("calls tests: functionality and security have no cases; add at least one")
    return Plan(groups, entry_point=entry_point, cases=tuple(cases))


def _check_case(name: str, case: Json) -> None:
    if not isinstance(case, Mapping):
        raise DataError(f"calls tests: {name} must be an object (got {type(case).__name__})")
    check_keys(f"calls tests: {name}", case, {"args", "kwargs", "expect", "raises"})
    if ("expect" in case) == ("raises" in case):
        raise DataError(f"calls tests: {name} needs exactly one of expect and raises")
    if not isinstance(case.get("args", []), list) or not isinstance(case.get("kwargs", {}), dict):
        raise DataError(f"calls tests: {name} needs a list of args and an object of kwargs")
    raises = case.get("raises", "")
    if not isinstance(raises, str) or ("raises" in case and not raises.isidentifier()):
        raise DataError(
            f"calls tests: {name}: raises must be the name of an exception class (got {raises!r})"
        )


@lru_cache(maxsize=4096)
def groups_in(source: str, any_fixture: bool = False) -> Mapping[str, Group]:
    """Test functions of a test text -> their group; functions without a mark are functional."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"the test text is not Python: {error}; correct it") from error
    groups: dict[str, Group] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                _add(groups, inner, f"{node.name}.", _is_security(node), any_fixture)
        else:
            _add(groups, node, "", False, any_fixture)
    if not groups:
        raise DataError("the test text has no test functions; their names start with test")
    return groups


def _add(
    groups: dict[str, Group],
    node: ast.stmt,
    prefix: str,
    owner_is_security: bool,
    any_fixture: bool,
) -> None:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    if not node.name.startswith("test"):
        return
    name = prefix + node.name
    if isinstance(node, ast.AsyncFunctionDef):
        raise DataError(f"{name}: asynchronous tests are not supported")
    if name in groups:
        raise DataError(f"{name}: two tests have this name")
    allowed = _KNOWN_ARGUMENTS | _parameter_names(node)
    wanted = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    strange = [argument for argument in wanted if argument not in allowed]
    if strange and not any_fixture:
        raise DataError(f"{name}: unknown fixture {strange[0]!r}; only tmp_path is available")
    groups[name] = "security" if owner_is_security or _is_security(node) else "functionality"


def _is_security(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return any(ast.unparse(mark).endswith("mark.security") for mark in node.decorator_list)


def _parameter_names(node: ast.FunctionDef) -> set[str]:
    names: set[str] = set()
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.parametrize"):
            for constant in ast.walk(mark.args[0]) if mark.args else ():
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    names.update(constant.value.replace(",", " ").split())
    return names
