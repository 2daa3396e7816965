"""Values that cross between candidate and tester: plain data only, bounded, never executable.

These cross: None, bool, int, float (with nan and infinities), str (with lone surrogates), bytes,
bytearray, list, tuple, dict, set, frozenset and pathlib paths. Subclasses arrive as their plain
base, iterators and ranges as lists. All other types are refused by name. Reading never calls
anything that the sender chose, and bounds size, depth and digits.
"""

import json
import math
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

MAX_FRAME_BYTES = 8 << 20
MAX_DEPTH = 80
MAX_ITEMS = 1_000_000
MAX_INT_HEX = 1 << 16
_LENGTH = struct.Struct("!I")
_VIEWS: tuple[type, ...] = (Iterator, range, type({}.keys()), type({}.values()), type({}.items()))


class CodecError(Exception):
    """A value cannot cross, or what arrived is not a value."""


def encode(value: object) -> bytes:
    """Write a value; raises CodecError when it cannot cross."""
    try:
        data = json.dumps(_pack(value, 0), separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise CodecError("the value is nested too deep") from None
    if len(data) > MAX_FRAME_BYTES:
        raise CodecError(f"the value is larger than {MAX_FRAME_BYTES} bytes")
    return data


def decode(data: bytes) -> Any:
    """Read a value from an untrusted sender; raises CodecError for anything but plain data."""
    try:
        return _unpack(json.loads(data, parse_int=_short_int, parse_constant=_refuse), 0)
    except CodecError:
        raise
    except (ValueError, TypeError, LookupError, RecursionError, MemoryError) as error:
        raise CodecError(f"not a plain value: {type(error).__name__}") from None


def _pack(value: object, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _pack_text(value)
    if isinstance(value, int):
        number = int.__add__(value, 0)
        return number if -(2**53) < number < 2**53 else {"i": hex(number)}
    if isinstance(value, float):
        number_ = float.__add__(value, 0.0) if value != 0 else float.__pos__(value)
        return number_ if math.isfinite(number_) else {"f": repr(number_)}
    return _pack_compound(value, depth)


def _pack_text(value: str) -> Any:
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError:
        return {"s": plain.encode("utf-8", "surrogatepass").hex()}
    return plain


def _pack_compound(value: object, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        raise CodecError("the value is nested too deep")
    if isinstance(value, list):
        return [_pack(item, depth + 1) for item in list.__iter__(value)]
    if isinstance(value, tuple):
        return {"t": [_pack(item, depth + 1) for item in tuple.__iter__(value)]}
    if isinstance(value, dict):
        return {"d": [_pack(pair, depth + 1) for pair in dict.items(value)]}
    if isinstance(value, bytes | bytearray):
        return {"b" if isinstance(value, bytes) else "B": value.hex()}
    if isinstance(value, set | frozenset):
        tag = "S" if isinstance(value, set) else "F"
        return {tag: [_pack(item, depth + 1) for item in value]}
    if isinstance(value, PurePath):
        return {"p": _pack_text(str(value))}
    if isinstance(value, Iterable) and isinstance(value, _VIEWS):
        return _pack_items(value, depth)
    raise CodecError(f"a value of type {type(value).__name__} cannot cross")


def _pack_items(value: Iterable[object], depth: int) -> Any:
    items = [_pack(item, depth + 1) for item in islice(value, MAX_ITEMS + 1)]
    if len(items) > MAX_ITEMS:
        raise CodecError(f"an iterator gave more than {MAX_ITEMS} items")
    return items


def _unpack(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth >= MAX_DEPTH + 1:
        raise CodecError("the value is nested too deep")
    if isinstance(value, list):
        return [_unpack(item, depth + 1) for item in value]
    ((tag, body),) = value.items()
    return _READERS[tag](body, depth + 1)


def _short_int(text: str) -> int:
    if len(text) > 20:
        raise CodecError("an integer has too many digits")
    return int(text)


def _refuse(text: str) -> float:
    raise CodecError(f"{text} is not allowed here")


def _read_int(body: Any, _depth: int) -> int:
    if len(body) > MAX_INT_HEX:
        raise CodecError("an integer has too many digits")
    return int(body, 16)


def _read_float(body: Any, _depth: int) -> float:
    if body not in ("nan", "inf", "-inf"):
        raise CodecError("not a float")
    return float(body)


def _read_items(body: Any, depth: int) -> list[Any]:
    if not isinstance(body, list):
        raise CodecError("not a list of items")
    return [_unpack(item, depth) for item in body]


def _read_path(body: Any, depth: int) -> Path:
    text = _unpack(body, depth)
    if not isinstance(text, str):
        raise CodecError("not a path")
    return Path(text)


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "i": _read_int,
    "f": _read_float,
    "s": lambda body, depth: bytes.fromhex(body).decode("utf-8", "surrogatepass"),
    "b": lambda body, depth: bytes.fromhex(body),
    "B": lambda body, depth: bytearray.fromhex(body),
    "t": lambda body, depth: tuple(_read_items(body, depth)),
    "S": lambda body, depth: set(_read_items(body, depth)),
    "F": lambda body, depth: frozenset(_read_items(body, depth)),
    "d": lambda body, depth: dict(_read_items(body, depth)),
    "p": _read_path,
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
