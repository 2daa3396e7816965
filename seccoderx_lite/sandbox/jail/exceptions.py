"""Exceptions that cross: by the names of their classes, plain arguments and plain attributes."""

import builtins
import contextlib
import sys
from collections.abc import Callable
from typing import Any

from .codec import encode
from .errors import CandidateError
from .values import is_name, name_of

_PLAIN = (bool, int, float, str, bytes, type(None))


def describe_error(
    error: BaseException,
) -> tuple[list[list[str]], list[object], dict[str, object]]:
    """The exception's classes, most derived first, its plain arguments and plain attributes."""
    try:
        args: list[object] = (
            list(error.args) if all(isinstance(a, _PLAIN) for a in error.args) else [str(error)]
        )
        encode(args)
        if sum(len(a) for a in args if isinstance(a, str | bytes)) > 10_000:
            args = [str(error)[:10_000]]
    except BaseException:  # __str__ of an exception may raise anything
        args = []
    attributes: dict[str, object] = {
        name: value
        for name, value in list(getattr(error, "__dict__", {}).items())[:20]
        if is_name(name) and isinstance(value, _PLAIN) and len(str(value)) < 1000
    }
    return class_names(type(error)), args, attributes


def class_names(kind: type[BaseException]) -> list[list[str]]:
    """For each class in the method resolution order: its name, then its direct bases."""
    return [[name_of(base), *map(name_of, base.__bases__)] for base in kind.__mro__[:20]]


class ExceptionClasses:
    """The tester's classes for the candidate's exceptions."""

    def __init__(self) -> None:
        self._classes: dict[str, type[BaseException]] = {}
        self._originals: dict[type, list[list[str]]] = {}

    def names(self, kind: type[BaseException]) -> list[list[str]]:
        """The names of a class, as the candidate knows them."""
        return self._originals.get(kind) or class_names(kind)

    def rebuilt(
        self, classes: list[list[str]], args: list[Any], attributes: dict[str, Any]
    ) -> BaseException:
        error = _rebuild(self.of(classes), args)
        for name, value in attributes.items():
            if is_name(name) and name not in dir(BaseException):
                with contextlib.suppress(AttributeError):
                    setattr(error, name, value)
        return error

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
        try:
            return type(name.rpartition(".")[2], parents, {})
        except TypeError:
            return CandidateError


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


def _rebuild(kind: type[BaseException], args: list[Any]) -> BaseException:
    """An instance with the given arguments, made without running a constructor in Python.

    Members of an exception group do not cross.
    """
    make: Callable[..., BaseException] = kind.__new__
    is_group = issubclass(kind, BaseExceptionGroup)
    given = [str(args[0]) if args else "", [CandidateError()]] if is_group else args
    try:
        error = make(kind, *given)
    except (TypeError, ValueError):
        error = Exception.__new__(kind) if issubclass(kind, Exception) else CandidateError()
    error.args = tuple(args)
    return error
