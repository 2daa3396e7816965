"""Values that cross between candidate and tester: plain data only, bounded, never executable.

These cross: None, bool, int, float (with nan and infinities), str (with lone surrogates), bytes,
bytearray, list, tuple, dict, set, frozenset, pathlib paths, and what `values` lists. Subclasses
arrive as their plain base, ranges and views as lists. For all other types, each side packs a handle
(`Packer`) or refuses them by name. Reading never calls anything that the sender chose, and bounds
size, depth and digits.
"""

import enum
import json
import math
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Protocol

from . import values

MAX_FRAME_BYTES = 8 << 20
MAX_DEPTH = 80
MAX_ITEMS = 1_000_000
MAX_INT_HEX = 1 << 16
_LENGTH = struct.Struct("!I")
_VIEWS: tuple[type, ...] = (range, type({}.keys()), type({}.values()), type({}.items()))

Packer = Callable[[object], tuple[str, Any] | None]
"""Tag and plain body of an object that has no value of its own; None refuses it."""


class Readers(Protocol):
    """Tag -> what makes the object from its unpacked body; raises KeyError for other tags."""

    def __getitem__(self, tag: str, /) -> Callable[[Any], Any]: ...


class CodecError(Exception):
    """A value cannot cross, or what arrived is not a value."""


class NotPlain(CodecError):
    """A value of this type cannot cross."""


def encode(value: object, packer: Packer = lambda value: None) -> bytes:
    """Write a value; raises CodecError when it cannot cross."""
    try:
        data = json.dumps(_pack(value, 0, packer), separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise CodecError("the value is nested too deep") from None
    if len(data) > MAX_FRAME_BYTES:
        raise CodecError(f"the value is larger than {MAX_FRAME_BYTES} bytes")
    return data


def decode(data: bytes, readers: Readers = MappingProxyType({})) -> Any:
    """Read a value from an untrusted sender; raises CodecError for anything but plain data."""
    try:
        return _unpack(json.loads(data, parse_int=_short_int, parse_constant=_refuse), 0, readers)
    except CodecError:
        raise
    except (
        ValueError, TypeError, LookupError, RecursionError, MemoryError, ArithmeticError, OSError
    ) as error:  # fmt: skip
        raise CodecError(f"not a plain value: {type(error).__name__}") from None


def _pack(value: object, depth: int, packer: Packer) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, enum.Enum):
        return _pack_object(value, depth, packer)
    if isinstance(value, str):
        return _pack_text(value)
    if isinstance(value, int):
        number = int.__add__(value, 0)
        return number if -(2**53) < number < 2**53 else {"i": hex(number)}
    if isinstance(value, float):
        number_ = float.__add__(value, 0.0) if value != 0 else float.__pos__(value)
        return number_ if math.isfinite(number_) else {"f": repr(number_)}
    return _pack_compound(value, depth, packer)


def _pack_text(value: str) -> Any:
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError:
        return {"s": plain.encode("utf-8", "surrogatepass").hex()}
    return plain


def _pack_compound(value: object, depth: int, packer: Packer) -> Any:
    if depth >= MAX_DEPTH:
        raise CodecError("the value is nested too deep")
    deeper = depth + 1
    if isinstance(value, list):
        return [_pack(item, deeper, packer) for item in list.__iter__(value)]
    if isinstance(value, tuple):
        if type(value) is not tuple and values.is_named_tuple(value):
            return _pack_object(value, depth, packer)
        return {"t": [_pack(item, deeper, packer) for item in tuple.__iter__(value)]}
    if type(value) is Counter:
        return {"v": ["Counter", _pack(dict(value), deeper, packer)]}
    if isinstance(value, dict):
        return {"d": [_pack(pair, deeper, packer) for pair in dict.items(value)]}
    if isinstance(value, bytes | bytearray):
        return {"b" if isinstance(value, bytes) else "B": value.hex()}
    if isinstance(value, set | frozenset):
        tag = "S" if isinstance(value, set) else "F"
        return {tag: [_pack(item, deeper, packer) for item in value]}
    if isinstance(value, PurePath):
        return {"p": _pack_text(str(value))}
    if isinstance(value, memoryview):
        return {"b": value.hex()}
    if isinstance(value, Iterable) and isinstance(value, _VIEWS):
        return _pack_items(value, depth, packer)
    return _pack_object(value, depth, packer)


def _pack_object(value: object, depth: int, packer: Packer) -> Any:
    """An object by value where it has one, else as the packer likes."""
    if standard := values.pack_standard(value):
        return {"v": [standard[0], *(_pack(part, depth + 1, packer) for part in standard[1])]}
    if array := values.pack_array(value):
        return {"n": [_pack(part, depth + 1, packer) for part in array]}
    if packed := packer(value):
        tag, body = packed
        return {tag: _pack(body, depth + 1, packer)}
    if isinstance(value, enum.Enum):
        return _pack(value.value, depth + 1, packer)
    if isinstance(value, tuple):
        return {"t": [_pack(item, depth + 1, packer) for item in tuple.__iter__(value)]}
    raise NotPlain(f"a value of type {type(value).__name__} cannot cross")


def _pack_items(value: Iterable[object], depth: int, packer: Packer) -> Any:
    items = [_pack(item, depth + 1, packer) for item in islice(value, MAX_ITEMS + 1)]
    if len(items) > MAX_ITEMS:
        raise CodecError(f"an iterator gave more than {MAX_ITEMS} items")
    return items


def _unpack(value: Any, depth: int, readers: Readers) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth >= MAX_DEPTH + 2:
        raise CodecError("the value is nested too deep")
    if isinstance(value, list):
        return [_unpack(item, depth + 1, readers) for item in value]
    ((tag, body),) = value.items()
    if tag in _PLAIN_READERS:
        return _PLAIN_READERS[tag](body)
    content = _unpack(body, depth + 1, readers)
    if tag not in _BUILDERS:
        return readers[tag](content)
    if not isinstance(content, list):
        raise CodecError("not a list of items")
    return _BUILDERS[tag](content)


def _short_int(text: str) -> int:
    if len(text) > 20:
        raise CodecError("an integer has too many digits")
    return int(text)


def _refuse(text: str) -> float:
    raise CodecError(f"{text} is not allowed here")


def _read_int(body: Any) -> int:
    if len(body) > MAX_INT_HEX:
        raise CodecError("an integer has too many digits")
    return int(body, 16)


def _read_float(body: Any) -> float:
    if body not in ("nan", "inf", "-inf"):
        raise CodecError("not a float")
    return float(body)


def _read_text(body: Any) -> str:
    return bytes.fromhex(body).decode("utf-8", "surrogatepass")


def _read_path(body: Any) -> Path:
    text = _read_text(body["s"]) if isinstance(body, dict) else body
    if not isinstance(text, str):
        raise CodecError("not a path")
    return Path(text)


_PLAIN_READERS: dict[str, Callable[[Any], Any]] = {
    "i": _read_int,
    "f": _read_float,
    "s": _read_text,
    "b": bytes.fromhex,
    "B": bytearray.fromhex,
    "p": _read_path,
}
_BUILDERS: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple,
    "S": set,
    "F": frozenset,
    "d": dict,
    "n": lambda parts: values.read_array(*parts),
    "v": lambda parts: values.STANDARD[parts[0]](*parts[1:]),
}


def send_frame(channel: socket.socket, data: bytes) -> None:
    """Send one length-prefixed frame."""
    channel.sendall(_LENGTH.pack(len(data)) + data)


def read_frame(channel: socket.socket, limit: int = MAX_FRAME_BYTES + 1024) -> bytes | None:
    """Read one frame; None at end of file between or inside frames."""
    head = read_exactly(channel, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise CodecError(f"a message of {length} bytes is over the limit of {limit}")
    return read_exactly(channel, length)


def read_exactly(channel: socket.socket, count: int) -> bytes | None:
    """Read `count` bytes; None at end of file."""
    parts = bytearray()
    while len(parts) < count:
        piece = channel.recv(min(count - len(parts), 1 << 20))
        if not piece:
            return None
        parts += piece
    return bytes(parts)
