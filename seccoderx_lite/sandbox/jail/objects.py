"""The objects that this process lends to the other one, and what can be done with them."""

import contextlib
import copy
import dataclasses
import enum
import os
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from . import values
from .descriptions import describe_part
from .remote import PLAIN, SPECIALS, Remote, make_remote, read_info

MAX_OBJECTS = 200_000
_CHUNK_S = 0.05
_STEP_S = 0.005


class Loans:
    """Objects that the other process holds handles of, by number."""

    def __init__(self) -> None:
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}
        self._pending: dict[int, BaseException] = {}
        """Exceptions of iterators that come after items which were already sent."""
        self._tasks: dict[int, Any] = {}
        self._driven: dict[int, tuple[Any, Any]] = {}
        """Awaitables that run inside another event loop, and what each waits for."""
        self._loop: Any = None

    def number(self, value: object) -> int:
        """The number of an object, the same each time."""
        found = self._numbers.get(id(value))
        if found is None:
            if len(self._objects) >= MAX_OBJECTS:
                raise MemoryError("too many objects are shared with the other process")
            found = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return found

    def get(self, number: object) -> Any:
        """The object with this number; raises LookupError."""
        if type(number) is not int or not 0 <= number < len(self._objects):
            raise LookupError("no such object")
        return self._objects[number]

    def perform(self, action: str, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Do what the other process asks of an object of this one."""
        if action == "call":
            return target(*args, **kwargs)
        if action == "attr":
            return getattr(target, *args)
        if action == "special":
            name, *rest = args
            if name not in SPECIALS:
                raise AttributeError(name)
            return getattr(type(target), name)(target, *rest, **kwargs)
        actions: dict[str, Callable[..., Any]] = {
            "describe": describe_part,
            "copy": lambda value, is_deep: (copy.deepcopy if is_deep else copy.copy)(value),
            "set": setattr,
            "delete": delattr,
            "next": self._next,
            "state": _state,
            "step": self._step,
            "cancel": self._cancel,
        }
        return actions[action](target, *args)

    def _next(self, iterator: Iterator[Any], count: int) -> list[Any]:
        """Up to `count` items of an iterator; fewer if it ends, fails, or takes long."""
        number = self.number(iterator)
        if number in self._pending:
            raise self._pending.pop(number)
        items: list[Any] = []
        until = time.monotonic() + _CHUNK_S
        try:
            while len(items) < count and (not items or time.monotonic() < until):
                items.append(next(iterator))
        except StopIteration as stop:
            if stop.value is not None:
                self._pending[number] = stop
        except BaseException as error:
            self._pending[number] = error
        if not items and number in self._pending:
            raise self._pending.pop(number)
        return items

    def _step(self, awaitable: Any) -> tuple[bool, Any]:
        """Run an awaitable for a few milliseconds; returns whether it is done, and its result."""
        import asyncio  # slow to import, and rarely needed

        number = self.number(awaitable)
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            return self._drive(number, awaitable)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        if number not in self._tasks:
            self._tasks[number] = self._loop.create_task(_result_of(awaitable))
        task = self._tasks[number]
        self._loop.run_until_complete(asyncio.wait([task], timeout=_STEP_S))
        if not task.done():
            return False, None
        del self._tasks[number]
        return True, task.result()

    def _drive(self, number: int, awaitable: Any) -> tuple[bool, Any]:
        """Run an awaitable up to its next pause, inside the event loop that runs already."""
        steps, pause = self._driven.get(number) or (awaitable.__await__(), None)
        if pause is not None and not pause.done():
            return False, None
        try:
            pause = steps.send(None)
        except StopIteration as stop:
            return True, stop.value
        if pause is not None:
            pause._asyncio_future_blocking = False
        self._driven[number] = steps, pause
        return False, None

    def _cancel(self, awaitable: Any) -> None:
        task = self._tasks.pop(self.number(awaitable), None)
        if task is not None:
            task.cancel()
            import asyncio

            self._loop.run_until_complete(asyncio.wait([task], timeout=_STEP_S))


async def _result_of(awaitable: Any) -> Any:
    return await awaitable


def _state(value: Any) -> dict[str, Any]:
    """What decides whether two objects of a class with `__eq__` are equal."""
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.compare}
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name != "__weakref__":
                found[name] = getattr(value, name)
    return found


def describe(value: object) -> list[Any]:
    """Kind, classes, special methods and fields of an object, as `read_info` takes them.

    Of an ordinary function, which has nothing special, only the kind.
    """
    if type(value) is types.FunctionType:
        return [PLAIN]
    is_class = isinstance(value, type)
    kind: type = value if isinstance(value, type) else type(value)
    names = [values.name_of(base) for base in kind.__mro__[: values.MAX_NAMES]]
    owner = type(kind) if is_class else kind
    specials = [name for name in SPECIALS if getattr(owner, name, None) is not None]
    if is_class or getattr(owner, "__eq__", None) is getattr(object, "__eq__", None):
        specials.remove("__eq__")
    for name in ("__str__", "__repr__"):
        if getattr(owner, name) is getattr(object, name):
            specials.remove(name)
    fields: list[str] = []
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if values.is_name(field.name)]
    word = "class" if is_class else "function" if callable(value) else "object"
    return [word, names, specials, fields]


def pack_record(value: object, number: int) -> tuple[str, list[Any]] | None:
    """An enum member or a named tuple by value, with the number of its object; else None."""
    if isinstance(value, enum.Enum):
        kind = type(value)
        members = [[name, member.value] for name, member in kind.__members__.items()]
        name = value.name if isinstance(value.name, str) else None
        base = values.enum_base(kind)
        return "e", [values.name_of(kind), base, members, name, value.value, number]
    if isinstance(value, tuple) and values.is_named_tuple(value):
        names = [values.name_of(kind) for kind in type(value).__mro__[: values.MAX_NAMES]]
        return "N", [names, list(getattr(type(value), "_fields", ())), list(value), number]
    return None


class World:
    """What the tests change around the code: environment variables and the working folder."""

    def __init__(self) -> None:
        self._raw = dict(_raw_variables())
        self._folder = os.getcwd()

    def changes(self) -> list[Any] | None:
        """Changed variables (None: removed) and the new folder since the start; None for none."""
        raw, folder = _raw_variables(), _folder()
        if raw == self._raw and folder == self._folder:
            return None
        names = dict(raw.items() ^ self._raw.items())
        changed = {os.fsdecode(name): os.environ.get(os.fsdecode(name)) for name in names}
        return [changed, folder if folder != self._folder else None]


def _raw_variables() -> dict[bytes, bytes]:
    """The environment as it is stored: to compare it costs less than to decode it."""
    stored: dict[bytes, bytes] | None = getattr(os.environ, "_data", None)
    if stored is None:  # a test put another mapping in its place
        return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    return stored


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # the tests removed it
        return "/"


class Follower:
    """Makes the code see the tests' changes of the world."""

    def __init__(self) -> None:
        self._original: dict[bytes, bytes] = {}
        """The environment before the first change."""
        self._applied: Any = None

    def follow(self, changes: Any) -> None:
        """Apply what changed since the last call."""
        if changes == self._applied:
            return
        self._original = self._original or dict(_raw_variables())
        before = set(self._applied[0]) if self._applied else set()
        variables, folder = changes or ({}, None)
        for name in before - set(variables):
            value = self._original.get(os.fsencode(name))
            _set(name, None if value is None else os.fsdecode(value))
        for name, value in variables.items():
            _set(name, value)
        if folder:
            os.chdir(folder)
        self._applied = changes


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def remote_from(peer: Any, ref: object, described: list[Any]) -> Remote:
    """The proxy that a description from the other process asks for."""
    return make_remote(peer, ref, read_info(*described))
