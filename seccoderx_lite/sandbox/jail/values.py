"""Values of the standard library that cross by value, and objects that cross as handles.

By value: dates and times, Decimal, Fraction, complex, UUID, IP addresses, deque, Counter, slices,
arrays of numpy, enum members and named tuples. Every constructor called here belongs to the
standard library or to numpy, and gets plain data of a bounded size.
"""

import datetime
import decimal
import enum
import fractions
import ipaddress
import keyword
import re
import sys
import types
import uuid
import zoneinfo
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

MAX_NAMES = 20
"""Classes of a method resolution order that are described to the other side."""
_ADDRESSES: dict[str, Callable[[str], Any]] = {
    kind.__name__: kind
    for kind in (
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
        ipaddress.IPv4Network,
        ipaddress.IPv6Network,
    )
}
_DTYPE = re.compile(r"[<>|=]?[biufcU][0-9]{1,4}")


def pack_standard(value: object) -> tuple[str, list[object]] | None:
    """The tag of a value of the standard library and its parts; None for any other value."""
    if isinstance(value, datetime.datetime):
        plain = datetime.datetime.replace(value, tzinfo=None)
        text = datetime.datetime.isoformat(plain)
        return "datetime", [text, value.fold, value.tzinfo]
    if isinstance(value, datetime.date):
        return "date", [datetime.date.isoformat(value)]
    if isinstance(value, datetime.time):
        text = datetime.time.isoformat(datetime.time.replace(value, tzinfo=None))
        return "time", [text, value.fold, value.tzinfo]
    if isinstance(value, datetime.timedelta):
        return "timedelta", [value.days, value.seconds, value.microseconds]
    if isinstance(value, zoneinfo.ZoneInfo) and value.key:
        return "zone", [value.key]
    if isinstance(value, datetime.timezone):
        return "timezone", [value.utcoffset(None)]
    return _pack_number(value)


def _pack_number(value: object) -> tuple[str, list[object]] | None:
    if isinstance(value, decimal.Decimal):
        return "Decimal", [decimal.Decimal.__str__(value)]
    if isinstance(value, fractions.Fraction):
        return "Fraction", [value.numerator, value.denominator]
    if isinstance(value, complex):
        return "complex", [value.real, value.imag]
    if isinstance(value, uuid.UUID):
        return "UUID", [value.int]
    if type(value).__name__ in _ADDRESSES and type(value).__module__ == "ipaddress":
        return type(value).__name__, [str(value)]
    if isinstance(value, deque):
        return "deque", [list(value), value.maxlen]
    if isinstance(value, slice):
        return "slice", [value.start, value.stop, value.step]
    return None


def _moment(kind: type, text: str, fold: int, zone: Any) -> Any:
    is_zone = zone is None or isinstance(zone, datetime.tzinfo)
    if not (isinstance(text, str) and fold in (0, 1) and is_zone):
        raise ValueError("not a time")
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=zone)  # type: ignore[attr-defined]


def _integers(*parts: Any) -> tuple[int, ...]:
    if not all(type(part) is int for part in parts):
        raise ValueError("not integers")
    return parts


def _text(part: Any) -> str:
    if not isinstance(part, str) or len(part) > 10_000:
        raise ValueError("not a short text")
    return part


def _offset(part: Any) -> datetime.timezone:
    return datetime.timezone(part)


def _deque(items: Any, size: Any) -> deque[Any]:
    if not isinstance(items, list) or not (size is None or type(size) is int):
        raise ValueError("not a deque")
    return deque(items, size)


def _counter(items: Any) -> Counter[Any]:
    if type(items) is not dict:
        raise ValueError("not a counter")
    made: Counter[Any] = Counter()
    dict.update(made, items)
    return made


def _complex(real: Any, imaginary: Any) -> complex:
    if not all(isinstance(part, int | float) for part in (real, imaginary)):
        raise ValueError("not a complex number")
    return complex(real, imaginary)


def _address(kind: str) -> Callable[[Any], Any]:
    return lambda text: _ADDRESSES[kind](_text(text))


STANDARD: dict[str, Callable[..., Any]] = {
    "datetime": lambda *parts: _moment(datetime.datetime, *parts),
    "time": lambda *parts: _moment(datetime.time, *parts),
    "date": lambda text: datetime.date.fromisoformat(_text(text)),
    "timedelta": lambda *parts: datetime.timedelta(*_integers(*parts)),
    "timezone": _offset,
    "zone": lambda key: zoneinfo.ZoneInfo(_text(key)),
    "Decimal": lambda text: decimal.Decimal(_text(text)),
    "Fraction": lambda *parts: fractions.Fraction(*_integers(*parts)),
    "UUID": lambda number: uuid.UUID(int=_integers(number)[0]),
    "complex": _complex,
    "deque": _deque,
    "Counter": _counter,
    "slice": slice,
    **{kind: _address(kind) for kind in _ADDRESSES},
}
"""Tag -> what makes the value from its parts."""


def pack_array(value: object) -> list[object] | None:
    """Type and items of a numpy array, or None; a numpy scalar has the type ""."""
    kind = type(value)
    if kind.__module__ != "numpy" or not hasattr(value, "tolist") or not hasattr(value, "dtype"):
        return None
    is_array = kind.__name__ == "ndarray"
    dtype = str(value.dtype.str) if is_array else ""
    if dtype and not _DTYPE.fullmatch(dtype):
        return None
    return [dtype, value.tolist()]


def read_array(dtype: Any, items: Any) -> Any:
    """The array if numpy is imported in this process; else its items as lists."""
    numpy = sys.modules.get("numpy")
    if numpy is None or dtype == "":
        return items
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ValueError("not an array")
    return numpy.array(items, dtype=dtype)


def name_of(kind: type) -> str:
    """Module and qualified name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_named_tuple(value: tuple[Any, ...]) -> bool:
    """Whether a tuple is an instance of a class made by `namedtuple` or `NamedTuple`."""
    fields = getattr(type(value), "_fields", None)
    return isinstance(fields, tuple) and len(fields) == len(value) and all(map(is_name, fields))


def is_name(text: object) -> bool:
    """Whether this can be the public name of an attribute."""
    return (
        isinstance(text, str)
        and len(text) < 100
        and text.isidentifier()
        and not text.startswith("_")
        and not keyword.iskeyword(text)
    )


_ENUMS = (enum.IntFlag, enum.Flag, enum.IntEnum, enum.StrEnum, enum.Enum)


def enum_base(kind: type[enum.Enum]) -> str:
    """The class of the standard library that an enumeration derives from, by name."""
    base = next(base for base in _ENUMS if issubclass(kind, base))
    if base is not enum.Enum:
        return base.__name__
    return "int" if issubclass(kind, int) else "str" if issubclass(kind, str) else "Enum"


def make_enum(name: str, base: str, members: list[tuple[str, Any]]) -> type[enum.Enum]:
    """An enumeration with these members, made from plain data."""
    if not all(is_name(member) and member not in ("mro", "name", "value") for member, _ in members):
        raise ValueError("not the names of members")
    bases: dict[str, tuple[Any, ...]] = {"int": (enum.Enum, int), "str": (enum.Enum, str)}
    bases |= {kind.__name__: (kind, None) for kind in _ENUMS}
    make, mixin = bases[base]
    made: type[enum.Enum] = make(name, members, type=mixin)
    return made


def member_of(kind: type[enum.Enum], name: Any, value: Any) -> Any:
    """A member by name; a combination of flags by value."""
    if name in kind.__members__:
        return kind[name]
    return kind(value)


def standard_object(name: str) -> Any:
    """A public function, class or member of the standard library by name; raises LookupError."""
    module_name, _, path = name.partition(":")
    if module_name.partition(".")[0] not in sys.stdlib_module_names:
        raise LookupError(name)
    __import__(module_name)
    found: Any = sys.modules[module_name]
    for part in path.split("."):
        found = getattr(found, part)
    return found


_PLAIN: tuple[type, ...] = (
    object, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset,
    type(None),
)  # fmt: skip
PLAIN_CLASSES = {kind.__name__: kind for kind in _PLAIN}
"""Classes that the code may give to the tests as themselves, in annotations for example."""


def imported_class(name: str) -> Any:
    """A class of a standard module that this process has imported, by full name, or None."""
    module, _, path = name.rpartition(".")
    is_standard = module.partition(".")[0] in sys.stdlib_module_names
    return getattr(sys.modules.get(module), path, None) if is_standard else None


_NAMED = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)


def _place(value: Any) -> tuple[str | None, str]:
    """Module and qualified name of a function or class."""
    owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
    of_class = owner if isinstance(owner, type) else value
    return getattr(of_class, "__module__", None), getattr(value, "__qualname__", "")


def standard_name(value: object) -> str | None:
    """The name under which `standard_object` finds this function or class, or None."""
    if isinstance(value, enum.Enum):
        module: str | None = type(value).__module__
        path = f"{type(value).__qualname__}.{value.name}"
    elif isinstance(value, _NAMED):
        module, path = _place(value)
    else:
        return None
    name = f"{module}:{path}"
    if not module or module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    try:
        return name if standard_object(name) == value else None
    except (LookupError, AttributeError, ImportError):
        return None
