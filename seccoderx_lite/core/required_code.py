"""What a task's tests ask the code to define or do, to choose among several blocks of code."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from seccoderx_lite.core.records import Json


@dataclass(frozen=True, slots=True)
class Asked:
    """What code must define or do; nothing is known about it by default."""

    names: frozenset[str] = frozenset()
    """Names that it must define at its top level."""
    is_program: bool = False
    """Whether it is started on its own."""


ANYTHING = Asked()


def asked_by(tests: Mapping[str, Json] | None) -> Asked:
    """Return what tests ask for, as far as they tell; tests that cannot be read ask for anything.

    >>> asked_by({"kind": "calls", "entry_point": "add", "functionality": []}).names
    frozenset({'add'})
    """
    tests = tests or {}
    if tests.get("kind") == "stdio":
        return Asked(is_program=True)
    entry_point, source = tests.get("entry_point"), tests.get("source")
    if isinstance(entry_point, str) and entry_point:
        return Asked(frozenset({entry_point.partition(".")[0]}))
    if isinstance(source, str):
        return Asked(_names_imported(source, str(tests.get("module") or "candidate")))
    return ANYTHING


@lru_cache(maxsize=4096)
def _names_imported(source: str, module: str) -> frozenset[str]:
    """The names of a module that a test text imports from it or uses as its attributes."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    imports = [alias for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    called = {alias.asname or alias.name for alias in imports if alias.name == module}
    named = {
        alias.name
        for n in nodes
        if isinstance(n, ast.ImportFrom) and n.module == module
        for alias in n.names
    }
    attributes = {
        n.attr
        for n in nodes
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in called
    }
    return frozenset((named | attributes) - {"*"})
