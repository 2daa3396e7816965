"""Exceptions that cross: by the names of their classes, plain arguments and plain attributes.

With them cross their text, cause, context, notes and the members of a group, but no traceback and
no methods.
"""

import builtins
import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from .codec import CodecError, encode
from .errors import CandidateError
from .values import is_name, name_of

MAX_CHARACTERS = 10_000
_MOST_LINKED, _MOST_MEMBERS = 4, 16
"""Exceptions in a chain of causes, and in a group."""
_OWN_PARTS = frozenset(dir(BaseException))

Ask = Callable[..., Any]
"""Lets the candidate call something by its name in the module."""


def describe_error(
    error: BaseException, depth: int = 0
) -> tuple[list[list[str]], list[object], dict[str, Any]]:
    """The exception's classes, most derived first, its plain arguments and its other parts."""
    try:
        args: list[object] = list(error.args)
        if isinstance(error, BaseExceptionGroup):
            args = [error.message]
        elif not _plain(args):
            args = [str(error)[:MAX_CHARACTERS]]
        encode(args)
    except BaseException:  # __str__ of an exception may raise anything
        args = []
    parts: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        parts = {name: part for name, part in _parts(error, depth) if part}
    return class_names(type(error)), args, parts


def _parts(error: BaseException, depth: int) -> Iterator[tuple[str, Any]]:
    kind: Any = type(error)
    names = [*getattr(error, "__dict__", {}), *_slots_of(kind)][:30]
    values = {name: getattr(error, name, None) for name in names if is_name(name)}
    yield (
        "attributes",
        {
            name: value
            for name, value in values.items()
            if value is not None and name not in _OWN_PARTS and _plain(value)
        },
    )
    if isinstance(type(error).__str__, types.FunctionType):
        yield "text", str(error)[:MAX_CHARACTERS]
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        yield "notes", [str(note)[:1000] for note in notes[:_MOST_MEMBERS]]
    if depth >= _MOST_LINKED:
        return
    if error.__cause__ is not None:
        yield "cause", list(describe_error(error.__cause__, depth + 1))
    elif error.__context__ is not None and not error.__suppress_context__:
        yield "context", list(describe_error(error.__context__, depth + 1))
    if isinstance(error, BaseExceptionGroup):
        members = error.exceptions[:_MOST_MEMBERS]
        yield "members", [list(describe_error(member, depth + 1)) for member in members]


def _plain(value: object) -> bool:
    """Whether a value is short plain data."""
    try:
        return len(encode(value)) <= MAX_CHARACTERS
    except CodecError:
        return False


@lru_cache(maxsize=256)
def _slots_of(kind: type) -> tuple[str, ...]:
    """The public attributes that instances have outside their dictionary, such as `value`."""
    slots = (types.MemberDescriptorType, types.GetSetDescriptorType)
    return tuple(
        name
        for base in kind.__mro__
        for name, part in vars(base).items()
        if isinstance(part, slots) and is_name(name) and name not in _OWN_PARTS
    )


def class_names(kind: type[BaseException]) -> list[list[str]]:
    """For each class in the method resolution order: its name, then its direct bases."""
    return [[name_of(base), *map(name_of, base.__bases__)] for base in kind.__mro__[:20]]


class _MadeClass(type):
    """The tester's copy of an exception class of the candidate, which makes the instances."""

    _remote_call: tuple[Ask, str] | None = None

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = vars(cls).get("_remote_call")
        if made is None:
            return super().__call__(*args, **kwargs)
        ask, name = made
        return ask("call", name, *args, **kwargs)


class ExceptionClasses:
    """The tester's classes for the candidate's exceptions."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._classes: dict[str, type[BaseException]] = {}
        self._originals: dict[type, list[list[str]]] = {}

    def names(self, kind: type[BaseException]) -> list[list[str]]:
        """The names of a class, as the candidate knows them."""
        return self._originals.get(kind) or class_names(kind)

    def rebuilt(
        self, classes: list[list[str]], args: list[Any], parts: dict[str, Any]
    ) -> BaseException:
        kind = self.of(classes)
        members = [error for each in _listed(parts, "members") if (error := self._linked(each))]
        error = _rebuild(kind, args, members)
        attributes = parts.get("attributes")
        for name, value in attributes.items() if isinstance(attributes, dict) else ():
            if is_name(name) and name not in _OWN_PARTS:
                with contextlib.suppress(AttributeError, TypeError, ValueError):
                    setattr(error, name, value)
        if isinstance(text := parts.get("text"), str) and isinstance(kind, _MadeClass):
            error._remote_text = text  # type: ignore[attr-defined]
        for note in _listed(parts, "notes"):
            error.add_note(str(note))
        if cause := self._linked(parts.get("cause")):
            error.__cause__ = cause
            error.__context__ = cause
        if context := self._linked(parts.get("context")):
            error.__context__ = context
        return error

    def _linked(self, described: Any) -> BaseException | None:
        """Another exception that comes with one; None if this does not describe any."""
        if not (isinstance(described, list) and len(described) == 3):
            return None
        names, args, parts = described
        if not (isinstance(names, list) and isinstance(args, list) and isinstance(parts, dict)):
            return None
        return self.rebuilt(names, args, parts) if are_class_names(names) else None

    def looked_up(self, classes: list[list[str]], name: str) -> type[BaseException]:
        """The tester's class for one that the tests imported; its instances come from there."""
        found = self.of(classes)
        if isinstance(found, _MadeClass):
            found._remote_call = self._ask, name  # type: ignore[attr-defined]
        return found

    def of(self, classes: list[list[str]]) -> type[BaseException]:
        """The tester's class for one of the candidate's: a known one of that name, or a new one."""
        for name, *bases in reversed(classes):
            if name not in self._classes:
                self._classes[name] = _known_class(name) or self._build_class(name, bases)
        found = self._classes[classes[0][0]]
        self._originals.setdefault(found, classes)
        return found

    def _build_class(self, name: str, bases: list[str]) -> type[BaseException]:
        plain = ("builtins.Exception", "builtins.BaseException", "builtins.object")
        known = [self._classes[base] for base in bases if base in self._classes]
        special = [kind for kind in known if kind is not Exception and kind is not BaseException]
        parents = tuple(special) if set(bases) - set(plain) and special else (CandidateError,)

        def text(error: Any) -> str:
            known = vars(error).get("_remote_text")
            return known if known is not None else parents[0].__str__(error)

        try:
            made: Any = _MadeClass(name.rpartition(".")[2], parents, {"__str__": text})
        except TypeError:
            return CandidateError
        kind: type[BaseException] = made
        return kind


def _listed(parts: dict[str, Any], name: str) -> list[Any]:
    found = parts.get(name)
    return found[:_MOST_MEMBERS] if isinstance(found, list) else []


def are_class_names(classes: list[Any]) -> bool:
    return 0 < len(classes) <= 20 and all(
        isinstance(names, list)
        and 0 < len(names) <= 20
        and all(isinstance(name, str) and len(name) < 300 and name.isprintable() for name in names)
        for names in classes
    )


def derives_from(builtin: str, classes: list[list[str]]) -> bool:
    return any(names[0] == f"builtins.{builtin}" for names in classes)


def _known_class(name: str) -> type[BaseException] | None:
    """A builtin exception, or one of a standard module that the tests imported themselves."""
    module_name, _, class_name = name.rpartition(".")
    module: object = builtins if module_name == "builtins" else None
    if module_name.partition(".")[0] in sys.stdlib_module_names:
        module = sys.modules.get(module_name)
    found = getattr(module, class_name, None) if module is not None else None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _rebuild(
    kind: type[BaseException], args: list[Any], members: list[BaseException]
) -> BaseException:
    """An instance with the given arguments, made without running a constructor in Python."""
    make: Callable[..., BaseException] = kind.__new__
    given = args
    if issubclass(kind, BaseExceptionGroup):
        given = [str(args[0]) if args else "", members or [CandidateError()]]
    try:
        error = make(kind, *given)
    except (TypeError, ValueError):
        error = Exception.__new__(kind) if issubclass(kind, Exception) else CandidateError()
    error.args = tuple(args)
    return error
