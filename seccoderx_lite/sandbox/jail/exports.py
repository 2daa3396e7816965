"""What the code under test may do with objects of the tests that a test passes to it.

It may call functions that the tests define, and use the public attributes and special methods of
instances of their classes, of mocks and of text and binary streams. Nothing leads on to a module,
a frame or a private attribute, so no path ends at the expected answers.
"""

import io
import operator
import sys
import types
from collections.abc import Iterator
from typing import Any

from .remote import SPECIALS

MODULE = "tests"
_NAMES = ("__name__", "__qualname__", "__doc__")
"""What a decorator of the code copies from a function of the tests."""
_CALLABLES = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
_STREAMS = (io.StringIO, io.BytesIO, io.TextIOWrapper, io.BufferedReader, io.BufferedWriter)
_CONTAINERS = (list, dict, set, bytearray, str, bytes, tuple, frozenset, int, float)
_RUNNING = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


def may_lend(value: object) -> bool:
    """Whether the candidate may get a handle of this object of the tests."""
    if isinstance(value, types.FunctionType):
        return value.__module__ == MODULE
    if isinstance(value, types.MethodType):
        return may_lend(value.__self__) and may_lend(value.__func__)
    if isinstance(value, types.BuiltinMethodType):
        return isinstance(value.__self__, (*_CONTAINERS, *_STREAMS))
    if isinstance(value, _RUNNING):
        return True
    if isinstance(value, Iterator) and type(value).__module__ in ("builtins", "itertools"):
        return True
    return isinstance(value, (*_STREAMS, *_CALLABLES)) or _is_mock(value) or _is_of_tests(value)


def _is_mock(value: object) -> bool:
    mock = sys.modules.get("unittest.mock")
    return mock is not None and isinstance(value, mock.NonCallableMock)


def _is_of_tests(value: object) -> bool:
    """Whether it is a class of the tests, or an instance of one."""
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    return any(kind.__module__ == MODULE for kind in kinds)


def check(action: str, target: object, args: list[Any]) -> None:
    """Raise AttributeError if the candidate may not do this with an object of the tests."""
    name: Any = args[0] if args else None
    if action in ("call", "step", "cancel") or (action == "next" and name in range(1, 257)):
        return
    if action == "special" and name in SPECIALS:
        return
    if action == "attr" and name in _NAMES and isinstance(target, types.FunctionType):
        return
    is_open = isinstance(name, str) and not name.startswith("_")
    if action == "attr" and is_open and _may_read(target, name):
        return
    if action in ("set", "delete") and is_open and _is_of_tests(target):
        return
    raise AttributeError(f"{name!r} of an object of the tests is not available")


def _may_read(target: object, name: str) -> bool:
    if isinstance(target, _RUNNING):
        return name in ("send", "throw", "close", "asend", "athrow", "aclose")
    if isinstance(target, types.FunctionType):
        return name in vars(target)
    if _is_mock(target):
        hidden = dir(sys.modules["unittest.mock"].MagicMock)
        return name not in hidden and not name.startswith(("mock_", "method_calls", "assert"))
    return isinstance(target, _STREAMS) or _is_of_tests(target)
