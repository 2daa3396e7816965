"""The tester's handles: the candidate's objects that it holds, and its own that it lends.

What comes from the candidate is only described, never trusted: enumerations and named tuples are
rebuilt from plain data, everything else is a proxy.
"""

import collections
import enum
import functools
import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import exports, objects, values
from .exceptions import are_class_names, describe_error
from .remote import Info, Remote, make_remote
from .values import PLAIN_CLASSES

if TYPE_CHECKING:
    from .link import Link


class Handles:
    """Packs and reads objects that are not plain data, for one `Link`: it is the `remote.Peer`."""

    decides = True

    def __init__(self, link: "Link") -> None:
        self._link = link
        self._loans = objects.Loans()
        self._proxies: weakref.WeakValueDictionary[int, Remote] = weakref.WeakValueDictionary()
        self._known: set[str] = set()
        """Classes that the tests looked up, by full name."""
        self._enums: dict[tuple[Any, ...], type[enum.Enum]] = {}
        self._tuples: dict[tuple[Any, ...], type] = {}
        self._classes: dict[str, Remote] = {}
        """Proxies of classes by full name."""

    def __getitem__(self, tag: str) -> Callable[[Any], Any]:
        """What reads the body of an object with this tag; raises KeyError."""
        return functools.partial(_READERS[tag], self)

    def ask(self, action: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the candidate do something with one of its objects."""
        return self._link.ask(action, target, *args, **kwargs)

    def knows(self, names: tuple[str, ...]) -> bool:
        """Whether the tests looked up one of these classes."""
        return any(name in self._known for name in names)

    def class_of(self, ref: Any, info: Info) -> Remote:
        """The proxy of an object's class; nothing is asked."""
        known = self._classes.get(info.names[0])
        return known or make_remote(
            self, (*ref, "class"), Info("class", info.names, frozenset(), info.fields)
        )

    def forget(self) -> None:
        """Forget the objects of a candidate that ended."""
        self._proxies.clear()
        self._classes = {name: kind for name, kind in self._classes.items() if _is_named(kind)}

    def perform(self, action: str, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Do what the candidate asks of an object of the tests, if that is allowed."""
        exports.check(action, target, args)
        return self._loans.perform(action, target, args, kwargs)

    def looked_up(self, name: str, value: Any) -> Any:
        """An attribute of the module: an enumeration, or a proxy that outlives the process."""
        if not isinstance(value, Remote):
            return value
        info = value._remote_info
        if info.kind == "class" and "enum.Enum" in info.names:
            return self._enum_named(value)
        generation, number, *_ = value._remote_ref
        made = self._proxies[number] = make_remote(self, (generation, number, name), info)
        if info.kind == "class":
            self._known.add(info.names[0])
            self._classes[info.names[0]] = made
        return made

    def pack(self, value: object) -> tuple[str, Any] | None:
        """Tag and body of an object that has no value of its own; None if it cannot cross."""
        if isinstance(value, Remote):
            return "H", self._ref_of(value)
        if isinstance(value, enum.Enum) and (name := getattr(type(value), "_remote_name", None)):
            return "E", [name, value.name, value.value]
        if isinstance(value, tuple):
            names = getattr(type(value), "_remote_names", (values.name_of(type(value)),))
            return "N", [list(names), list(value._fields), list(value)]  # type: ignore[attr-defined]
        if isinstance(value, BaseException) or _is_error_class(value):
            return self._pack_error(value)
        if isinstance(value, types.TracebackType):
            return "z", None
        if isinstance(value, functools.partial):
            return "P", [value.func, list(value.args), value.keywords]
        if name := values.standard_name(value):
            return "L", name
        if exports.may_lend(value):
            return "c", [self._loans.number(value), *objects.describe(value)]
        return None

    def _ref_of(self, remote: Remote) -> Any:
        generation, number, name, *owner = remote._remote_ref
        if generation == self._link.generation:
            return [number] if owner else number
        if not name:
            self._link.lost("the candidate's process ended, and this object with it")
        return name

    def _pack_error(self, value: Any) -> tuple[str, Any]:
        exceptions = self._link.exceptions
        if isinstance(value, type):
            return "X", exceptions.names(value)
        _, args, parts = describe_error(value)
        return "x", [exceptions.names(type(value)), args, parts]

    # Reading

    def _proxy(self, body: list[Any]) -> Any:
        number, *described = body
        if type(number) is not int:
            raise ValueError("not a handle")
        found = self._proxies.get(number)
        if found is None:
            ref = (self._link.generation, number, "")
            found = objects.remote_from(self, ref, described)
            info = found._remote_info
            if info.kind == "class":
                found = self._classes.setdefault(info.names[0], found)
            self._proxies[number] = found
        return found

    def _plain_class(self, name: Any) -> type:
        return PLAIN_CLASSES[name]

    def _lent(self, number: Any) -> Any:
        return self._loans.get(number)

    def _error_class(self, names: Any) -> Any:
        return self._link.exceptions.of(_class_names(names))

    def _error(self, body: list[Any]) -> Any:
        names, args, parts = body
        if not isinstance(args, list) or not isinstance(parts, dict):
            raise ValueError("not an exception")
        return self._link.exceptions.rebuilt(_class_names(names), args, parts)

    def _enum_named(self, kind: Remote) -> Any:
        """The local copy of an enumeration, found through one of its members."""
        members = list(self.ask("special", kind, "__iter__"))
        return type(members[0]) if members and isinstance(members[0], enum.Enum) else kind

    def _member(self, body: list[Any]) -> Any:
        full_name, base, members, name, value, _ = body
        if not isinstance(full_name, str) or not full_name.isprintable():
            raise ValueError("not an enumeration")
        standard = values.imported_class(full_name)
        if isinstance(standard, type) and issubclass(standard, enum.Enum):
            return values.member_of(standard, name, value)
        pairs = [(member, content) for member, content in members]
        key = (full_name, base, repr(pairs))
        if key not in self._enums:
            made = values.make_enum(full_name.rpartition(".")[2], base, pairs)
            made._remote_name = full_name  # type: ignore[attr-defined]
            made.__getattr__ = _member_attribute(self)  # type: ignore[attr-defined]
            self._enums[key] = made
        return values.member_of(self._enums[key], name, value)

    def _named_tuple(self, body: list[Any]) -> Any:
        names, fields, items, _ = body
        if not all(map(values.is_name, fields)) or len(fields) != len(items):
            raise ValueError("not a named tuple")
        key = (tuple(names), tuple(fields))
        if key not in self._tuples:
            base = collections.namedtuple("base", fields)  # type: ignore[misc]
            name = str(names[0]).rpartition(".")[2][:100]
            content = {
                "_remote_names": tuple(map(str, names)),
                "__getattr__": lambda item, wanted: _attribute_of(self, item, wanted),
            }
            self._tuples[key] = type(name, (base,), content)
        return tuple.__new__(self._tuples[key], items)


_READERS: dict[str, Callable[[Handles, Any], Any]] = {
    "h": Handles._proxy,
    "T": Handles._plain_class,
    "c": Handles._lent,
    "e": Handles._member,
    "N": Handles._named_tuple,
    "x": Handles._error,
    "X": Handles._error_class,
}


def _is_named(kind: Remote) -> bool:
    """Whether the tests looked a class up by its name, so that it outlives the process."""
    return bool(kind._remote_ref[2])


def _member_attribute(peer: Handles) -> types.FunctionType:
    def read(member: Any, name: str) -> Any:
        return _attribute_of(peer, member, name)

    return read  # type: ignore[return-value]


def _attribute_of(peer: Handles, value: Any, name: str) -> Any:
    """An attribute of a copied value that only the candidate's class has."""
    if name.startswith("_"):
        raise AttributeError(name)
    return peer.ask("attr", value, name)


def _class_names(names: Any) -> list[list[str]]:
    if not isinstance(names, list) or not are_class_names(names):
        raise ValueError("not the names of classes")
    return names


def _is_error_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
