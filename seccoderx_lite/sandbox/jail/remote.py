"""Objects of the other process: proxies that ask for every attribute, call and item.

Candidate and tester use the same proxies, each for the other's objects, but trust differs. The
tester decides comparisons itself (see `Remote.__eq__`), and an object of a class that the tests do
not know answers no yes-or-no question in place of a plain value.
"""

import dataclasses
import types
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any, NoReturn, Protocol

from . import values
from .descriptions import FIELDS, SIGNATURE, read_fields, read_signature
from .errors import BadTest

_ARITHMETIC = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
    "lshift", "rshift",
)  # fmt: skip
_ORDER = ("__lt__", "__le__", "__gt__", "__ge__")
SPECIALS = frozenset(
    {
        "__len__", "__iter__", "__next__", "__getitem__", "__setitem__", "__delitem__",
        "__contains__", "__reversed__", "__call__", "__enter__", "__exit__", "__aenter__",
        "__aexit__", "__aiter__", "__anext__", "__await__", "__bool__", "__str__", "__repr__",
        "__int__", "__float__", "__index__", "__neg__", "__pos__", "__abs__", "__invert__",
        "__divmod__", "__round__", "__eq__", *_ORDER,
    }
    | {f"__{side}{name}__" for name in _ARITHMETIC for side in ("", "r", "i")}
)  # fmt: skip
"""Special methods that an object of the other process may answer."""
_PUBLIC_SPECIAL = (
    "__name__", "__qualname__", "__annotations__", "__defaults__", "__wrapped__", "__version__",
    "__module__", "__self__", "__func__", "__code__", "__dict__", "__mro__", "__bases__",
)  # fmt: skip
_FUNCTION_TYPES: dict[str, type] = {
    "builtins.function": types.FunctionType,
    "builtins.method": types.MethodType,
    "builtins.generator": types.GeneratorType,
    "builtins.coroutine": types.CoroutineType,
    "builtins.async_generator": types.AsyncGeneratorType,
}
"""What `inspect` and `isinstance` take proxies of these for."""
_YES_OR_NO = frozenset(
    name
    for kind in (str, bytes, set, float)
    for name in dir(kind)
    if name.startswith(("is", "startswith", "endswith"))
)
_FIRST_ITEMS, _MOST_ITEMS = 16, 256
"""After this many single items of an iterator, more are fetched at once, up to a limit."""
KINDS = ("class", "function", "object")


class Peer(Protocol):
    """The connection to the other process."""

    decides: bool
    """Whether this process decides comparisons: true in the tester."""

    def ask(self, action: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the other process do something with one of its objects."""

    def knows(self, names: tuple[str, ...]) -> bool:
        """Whether the tests name one of these classes."""

    def class_of(self, ref: Any, info: "Info") -> Any:
        """The class of an object of the other process; nothing is asked."""


@dataclasses.dataclass(frozen=True)
class Info:
    """What the other process says about one of its objects."""

    kind: str
    names: tuple[str, ...]
    """Its classes, most derived first; for a class, itself first."""
    specials: frozenset[str]
    fields: tuple[str, ...]
    """The fields of an instance of a dataclass."""


PLAIN = "plain function"
_PLAIN_INFO = Info(
    "function", ("builtins.function", "builtins.object"), frozenset({"__call__", "__repr__"}), ()
)


def read_info(kind: Any, names: Any = (), specials: Any = (), fields: Any = ()) -> Info:
    """Check a description from the other process; raises ValueError if it is not one."""
    if kind == PLAIN:
        return _PLAIN_INFO
    lists = (names, specials, fields)
    if kind not in KINDS or not all(isinstance(part, list) and len(part) < 200 for part in lists):
        raise ValueError("not a description")
    if not names or not all(isinstance(name, str) and len(name) < 300 for name in names):
        raise ValueError("not the names of classes")
    if not set(specials) <= SPECIALS or not all(map(values.is_name, fields)):
        raise ValueError("not the parts of a class")
    return Info(kind, tuple(names), frozenset(specials), tuple(fields))


class Remote:
    """An object of the other process."""

    __slots__ = ("__weakref__", "_remote_buffer", "_remote_info", "_remote_peer", "_remote_ref")

    def __init__(self, peer: Peer, ref: object, info: Info) -> None:
        set_slot = object.__setattr__
        set_slot(self, "_remote_peer", peer)
        set_slot(self, "_remote_ref", ref)
        set_slot(self, "_remote_info", info)
        set_slot(self, "_remote_buffer", None)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """What `isinstance` and `inspect` take this for; always a class of this process."""
        info = self._remote_info
        return type if info.kind == "class" else _FUNCTION_TYPES.get(info.names[0], type(self))

    def __getattr__(self, name: str) -> Any:
        peer = self._remote_peer
        if name == SIGNATURE and _has_signature(self._remote_info):
            return read_signature(peer.ask("describe", self, name))
        if name == FIELDS and self._remote_info.fields:
            return read_fields(peer.ask("describe", self, name))
        if name.startswith("__") and name not in _PUBLIC_SPECIAL:
            raise AttributeError(name)
        if peer.decides and name in _YES_OR_NO and not peer.knows(self._remote_info.names):
            raise AttributeError(f"{_short_name(self)} is not a plain value: {name} is not asked")
        return peer.ask("attr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._remote_peer.ask("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._remote_peer.ask("delete", self, name)

    def __eq__(self, other: object) -> bool:
        """Compare by the rules of this process; the other's own comparison never runs.

        Equal are an object and itself, two objects of a class with `__eq__` whose fields are
        equal, and an iterator and the list of its items.
        """
        if self is other:
            return True
        if isinstance(other, _ProxyType):
            return bool(other == self)
        mine = self._remote_info
        if isinstance(other, list) and "__next__" in mine.specials:
            return list(self) == other
        if not isinstance(other, Remote) or not self._remote_peer.decides:
            return False
        theirs = other._remote_info
        if (
            mine.names[0] != theirs.names[0]
            or mine.kind == "class"
            or "__eq__" not in mine.specials
        ):
            return False
        peer = self._remote_peer
        ours = peer.ask("state", self)
        return bool(ours) and ours == peer.ask("state", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._remote_info.names[0])

    def __repr__(self) -> str:
        return f"<candidate object {_short_name(self)}>"

    def __dir__(self) -> list[str]:
        names: list[str] = self._remote_peer.ask("describe", self, "__dir__")
        return names

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        note = f"an object of the candidate ({_short_name(self)}) cannot be pickled"
        raise BadTest(note) if self._remote_peer.decides else TypeError(note)


def _has_signature(info: Info) -> bool:
    return info.kind != "object" or "__call__" in info.specials


def _short_name(remote: Remote) -> str:
    return str(remote._remote_info.names[0].rpartition(".")[2])


class RemoteClass(Remote):
    """A class of the other process."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote_peer.ask("call", self, *args, **kwargs)

    def __instancecheck__(self, value: object) -> bool:
        own = self._remote_info.names[0]
        if isinstance(value, Remote):
            return value._remote_info.kind != "class" and own in value._remote_info.names
        return own in getattr(type(value), "_remote_names", ())

    def __subclasscheck__(self, value: object) -> bool:
        names = value._remote_info.names if isinstance(value, Remote) else ()
        return self._remote_info.names[0] in names

    def __or__(self, other: Any) -> Any:
        return (self, other)

    def __ror__(self, other: Any) -> Any:
        return (other, self)  # `isinstance` takes a tuple like a union

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        note = f"a class of the candidate ({_short_name(self)}) cannot be derived from"
        raise BadTest(note) if self._remote_peer.decides else TypeError(note)


def make_remote(peer: Peer, ref: object, info: Info) -> Remote:
    """A proxy with the special methods that the object has."""
    kind = _PLAIN_TYPE if info is _PLAIN_INFO else _proxy_type(info)
    made: Remote = kind.__new__(kind)
    Remote.__init__(made, peer, ref, info)
    if info.kind == "object":
        kind._remote_latest = peer, ref, info
    return made


class _ProxyType(type):
    """The class of proxies of one class: to call it makes an object of that class."""

    _remote_latest: tuple[Peer, Any, Info]
    """Of an object of this class, the last one that came."""

    _remote_class: str
    """Full name of the class."""

    def __eq__(cls, other: object) -> bool:
        """Equal to the tests' proxy of the class itself: `type(value) == Stack`."""
        if isinstance(other, RemoteClass):
            return bool(other._remote_info.names[0] == cls._remote_class)
        return cls is other

    __hash__ = type.__hash__

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        peer, ref, info = cls._remote_latest
        return peer.ask("call", peer.class_of(ref, info), *args, **kwargs)


_DOC = property(lambda self: self._remote_peer.ask("attr", self, "__doc__"))


@lru_cache(maxsize=512)
def _proxy_type(info: Info) -> Any:
    body: dict[str, Any] = {"__slots__": (), "__doc__": _DOC}
    if info.kind == "class":
        specials = info.specials & {"__iter__", "__len__", "__getitem__", "__contains__"}
        return type("RemoteClass", (RemoteClass,), body | _methods(specials))
    body |= _methods(info.specials) | {"_remote_class": info.names[0]}
    if info.kind == "function":
        body["__call__"] = _call
    if info.fields:
        body[FIELDS] = _FieldsOf()
    return _ProxyType(info.names[0].rpartition(".")[2], (Remote,), body)


class _FieldsOf:
    """The fields of a dataclass: names of a proxy's type, and all of a proxy."""

    def __get__(self, value: Any, owner: Any) -> Any:
        return True if value is None else value.__getattr__(FIELDS)


def _methods(specials: frozenset[str]) -> dict[str, Callable[..., Any]]:
    found = {name: _special(name) for name in specials - {"__eq__", "__contains__", "__bool__"}}
    found |= {name: own for name, own in _OWN.items() if name in specials}
    if "__next__" in specials:
        found["__iter__"] = lambda self: self
    else:
        found["__copy__"] = lambda self: self._remote_peer.ask("copy", self, False)
        found["__deepcopy__"] = lambda self, memo: self._remote_peer.ask("copy", self, True)
    if "__await__" in specials:
        found |= _COROUTINE
    if "__bool__" not in specials and "__len__" in specials:
        found["__bool__"] = lambda self: self._remote_peer.ask("special", self, "__len__") != 0
    return found


def _special(name: str) -> Callable[..., Any]:
    is_order = name in _ORDER

    def method(self: Remote, *args: Any, **kwargs: Any) -> Any:
        peer = self._remote_peer
        if is_order and peer.decides:
            is_pair = isinstance(args[0], Remote) and peer.knows(args[0]._remote_info.names)
            if not (is_pair and peer.knows(self._remote_info.names)):
                return NotImplemented
        return peer.ask("special", self, name, *args, **kwargs)

    method.__name__ = name
    return method


def _call(self: Remote, *args: Any, **kwargs: Any) -> Any:
    return self._remote_peer.ask("call", self, *args, **kwargs)


def _next(self: Remote) -> Any:
    buffer = self._remote_buffer
    if buffer is None:
        buffer = _Buffer()
        object.__setattr__(self, "_remote_buffer", buffer)
    return buffer.next(self)


class _Buffer:
    """Items of an iterator that were fetched but not used yet."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.taken = 0

    def next(self, iterator: Remote) -> Any:
        if not self.items:
            grown = max(self.taken // _FIRST_ITEMS, 1)
            count = 1 if self.taken < _FIRST_ITEMS else min(grown, _MOST_ITEMS)
            self.items = list(iterator._remote_peer.ask("next", iterator, count))[::-1]
        if not self.items:
            raise StopIteration
        self.taken += 1
        return self.items.pop()


def _contains(self: Remote, item: object) -> bool:
    peer = self._remote_peer
    if not peer.decides or peer.knows(self._remote_info.names):
        return bool(peer.ask("special", self, "__contains__", item))
    if "__iter__" not in self._remote_info.specials:
        raise TypeError(
            f"{_short_name(self)} is not a plain container, and `in` is not asked of it"
        )
    return any(item is one or item == one for one in self)  # type: ignore[attr-defined]


def _await(self: Remote) -> Generator[None, None, Any]:
    """Run the other's coroutine in small steps, so that this event loop can go on between them."""
    peer, done, value = self._remote_peer, False, None
    try:
        while not done:
            done, value = peer.ask("step", self)
            if not done:
                yield
    except BaseException:
        if not done:
            peer.ask("cancel", self)
        raise
    return value


def _steps(self: Remote) -> Any:
    if self._remote_buffer is None:
        object.__setattr__(self, "_remote_buffer", _await(self))
    return self._remote_buffer


_COROUTINE: dict[str, Callable[..., Any]] = {
    "send": lambda self, value: _steps(self).send(value),
    "throw": lambda self, *error: _steps(self).throw(*error),
    "close": lambda self: _steps(self).close(),
}
"""What asyncio needs to take a remote awaitable for a coroutine."""

_OWN: dict[str, Callable[..., Any]] = {
    "__next__": _next,
    "__contains__": _contains,
    "__bool__": lambda self: bool(self._remote_peer.ask("special", self, "__bool__")),
    "__await__": _await,
    "__str__": lambda self: _text(self, "__str__"),
    "__repr__": lambda self: _text(self, "__repr__"),
}


def _text(self: Remote, name: str) -> str:
    answer = self._remote_peer.ask("special", self, name)
    if not isinstance(answer, str):
        raise TypeError(f"{name} returned {type(answer).__name__}")
    return answer


_PLAIN_TYPE = _proxy_type(_PLAIN_INFO)
