"""The part of pytest that test text in the tester may use: mark, raises, approx, fail.

The real pytest takes a third of a second to start. Using a part that is missing here fails, with a
message that names it.
"""

import contextlib
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .errors import BadTest, CandidateGone

ROWS = "_parameter_rows"


class RaisesContext:
    """`with pytest.raises(kind, match=...) as caught`."""

    def __init__(self, kinds: Any, match: str | None) -> None:
        self.kinds, self.pattern = kinds, match
        self.value: Any = None

    @property
    def type(self) -> Any:
        return type(self.value)

    @property
    def typename(self) -> str:
        return type(self.value).__name__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise BadTest(f"`{name}` of pytest.raises is not available in calls tests")

    def match(self, pattern: str) -> bool:
        """Search the message for a regular expression; fails the test if it is not found."""
        if not re.search(pattern, str(self.value)):
            raise AssertionError(f"{pattern!r} is not in {str(self.value)!r:.200}")
        return True

    def __enter__(self) -> "RaisesContext":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if kind is None:
            raise AssertionError(f"did not raise {self.kinds}")
        if issubclass(kind, CandidateGone) or not issubclass(kind, self.kinds):
            return False
        self.value = error
        if self.pattern is not None:
            self.match(self.pattern)
        return True


def raises(
    expected_exception: Any, *call: Any, match: str | None = None, **arguments: Any
) -> RaisesContext:
    """Expect an exception from a `with` block, or from a call that is passed in."""
    context = RaisesContext(expected_exception, match)
    if call:
        with context:
            call[0](*call[1:], **arguments)
    return context


class Approx:
    """Equals numbers, and sequences or mappings of numbers, within a tolerance."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        expected: Any,
        rel: float | None = None,
        abs: float | None = None,
        nan_ok: bool = False,
    ) -> None:
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    def __eq__(self, actual: object) -> bool:
        return self._close(actual, self.expected)

    def __repr__(self) -> str:
        return f"approx({self.expected!r})"

    def _close(self, actual: Any, expected: Any) -> bool:
        if isinstance(expected, Mapping):
            return (
                isinstance(actual, Mapping)
                and actual.keys() == expected.keys()
                and all(self._close(actual[key], expected[key]) for key in expected)
            )
        if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
            return (
                isinstance(actual, Sequence)
                and len(actual) == len(expected)
                and all(map(self._close, actual, expected))
            )
        if not isinstance(actual, int | float | complex) or isinstance(actual, bool):
            return bool(actual == expected)
        if actual == expected:
            return True
        if actual != actual or expected != expected:
            return self.nan_ok and actual != actual and expected != expected
        if abs(expected) == float("inf"):
            return False
        absolute = 1e-12 if self.abs is None else self.abs
        relative = (0.0 if self.abs is not None else 1e-6) if self.rel is None else self.rel
        return bool(abs(actual - expected) <= max(absolute, relative * abs(expected)))


class Mark:
    """`pytest.mark`: all marks but `parametrize` are decorators that change nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "parametrize":
            return _parametrize
        if name in ("skip", "skipif", "xfail", "usefixtures"):
            raise BadTest(f"pytest.mark.{name} is not allowed: every test must run and pass")
        return _decorator


def _decorator(*arguments: Any, **_options: Any) -> Any:
    if len(arguments) == 1 and callable(arguments[0]):
        return arguments[0]
    return lambda function: function


def _parametrize(
    names: str | Sequence[str], rows: Sequence[Any], ids: object = None
) -> Callable[[Any], Any]:
    keys = names.replace(",", " ").split() if isinstance(names, str) else list(names)

    def decorate(function: Any) -> Any:
        new = [dict(zip(keys, _row(row, len(keys)), strict=True)) for row in rows]
        old = getattr(function, ROWS, [{}])
        setattr(function, ROWS, [{**one, **other} for one in old for other in new])
        return function

    return decorate


def _row(row: Any, count: int) -> Sequence[Any]:
    if isinstance(row, _Row):
        return row.values
    return (row,) if count == 1 else row


class _Row:
    def __init__(self, *values: Any, **_options: Any) -> None:
        self.values = values


def rows_of(function: Any) -> list[dict[str, Any]]:
    """The parameter rows of a test (default: one empty row)."""
    rows: list[dict[str, Any]] = getattr(function, ROWS, [{}])
    if not rows:
        raise AssertionError("parametrize has no rows")
    return rows


def fail(reason: str = "", **_options: Any) -> None:
    raise AssertionError(reason)


def skip(reason: str = "", **_options: Any) -> None:
    """Fail the test: a skipped test proves nothing."""
    raise AssertionError(f"skipped: {reason}")


@contextlib.contextmanager
def warns(*_kinds: Any, **_options: Any) -> Iterator[None]:
    """Refuse: warnings stay in the candidate's process."""
    raise BadTest("pytest.warns is not available: warnings do not cross from the candidate")
    yield


def fixture(*_arguments: Any, **_options: Any) -> Any:
    """Refuse: only `tmp_path` is available."""
    raise BadTest("pytest.fixture is not available in calls tests; only tmp_path is")


class _Pytest(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise BadTest(f"pytest.{name} is not available in calls tests")


def make_pytest() -> types.ModuleType:
    """The module that `import pytest` finds in the tester."""
    module = _Pytest("pytest")
    module.__dict__.update(
        raises=raises,
        approx=Approx,
        mark=Mark(),
        param=_Row,
        fail=fail,
        skip=skip,
        warns=warns,
        fixture=fixture,
    )
    return module
