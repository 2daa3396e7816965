"""The driver inside the candidate's process: loads the code and answers calls one by one.

Nobody trusts this process: the code under test may replace everything in it. What it sends is read
as plain data, and only taken as the value that the function returned.
"""

import contextlib
import gc
import os
import random
import socket
import sys
import types
from typing import Any

from .codec import CodecError, decode, encode, read_frame, send_frame

_PLAIN = (bool, int, float, str, bytes, type(None))


def main(channel_fd: int, parts: list[str]) -> None:
    """Load the module `candidate` when asked, and answer calls until the socket closes.

    Its three parts are what the tests need before the code, the code, and what they add to it.
    """
    os.set_inheritable(channel_fd, False)
    channel = socket.socket(fileno=channel_fd)
    module = types.ModuleType("candidate")
    module.__file__ = "candidate.py"
    sys.modules["candidate"] = module
    sys.argv = ["candidate.py"]
    random.seed()
    gc.enable()
    if read_frame(channel) is None:
        return
    try:
        for part in parts:
            exec(_compile(part), module.__dict__)
    except BaseException as error:  # a candidate may raise anything while it loads
        send_frame(channel, encode(("broken", *_describe(error))))
        return
    send_frame(channel, encode(("loaded",)))
    while (frame := read_frame(channel)) is not None:
        reply = _answer(module, decode(frame))
        _flush()
        send_frame(channel, reply)


def _compile(code: str) -> types.CodeType:
    """The code object; every failure to compile counts as a syntax error."""
    try:
        return compile(code, "candidate.py", "exec", dont_inherit=True)
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise SyntaxError(str(error)) from None


def _answer(module: types.ModuleType, request: Any) -> bytes:
    number, action, name, args, kwargs = request
    try:
        if name == "__all__":
            return encode((number, "value", _public_names(module)))
        if not hasattr(module, name):
            return encode((number, "missing"))
        target = getattr(module, name)
        if action == "look":
            return _look(number, target)
        before = _snapshots(args)
        result = target(*args, **kwargs)
        return _returned(number, result, _changes(args, before))
    except BaseException as error:  # whatever the function raises is its answer
        return encode((number, "raised", *_describe(error)))


def _public_names(module: types.ModuleType) -> list[str]:
    """The names that `from candidate import *` imports."""
    listed = getattr(module, "__all__", None)
    return listed or [name for name in vars(module) if not name.startswith("_")]


def _look(number: int, target: object) -> bytes:
    """The kind of a module attribute: a value, an exception class, or a callable."""
    if isinstance(target, type) and issubclass(target, BaseException):
        return encode((number, "exception", _names(target)))
    if callable(target):
        return encode((number, "callable"))
    try:
        return encode((number, "value", target))
    except CodecError:
        return encode((number, "opaque", type(target).__name__))


def _returned(number: int, result: object, changes: dict[int, object]) -> bytes:
    try:
        return encode((number, "returned", result, changes))
    except CodecError as error:
        return encode((number, "opaque", str(error)))


def _snapshots(args: list[object]) -> dict[int, bytes]:
    """The mutable arguments before the call, by position."""
    kinds = (list, dict, set, bytearray)
    return {place: encode(value) for place, value in enumerate(args) if isinstance(value, kinds)}


def _changes(args: list[object], before: dict[int, bytes]) -> dict[int, object]:
    """The arguments that the call changed in place, by position."""
    changed: dict[int, object] = {}
    for place, was in before.items():
        with contextlib.suppress(CodecError):
            if encode(args[place]) != was:
                changed[place] = args[place]
    return changed


def _describe(error: BaseException) -> tuple[list[list[str]], list[object]]:
    """The exception's classes, most derived first, and its plain arguments."""
    try:
        args = list(error.args) if all(isinstance(a, _PLAIN) for a in error.args) else [str(error)]
        encode(args)
        if sum(len(a) for a in args if isinstance(a, str | bytes)) > 10_000:
            args = [str(error)[:10_000]]
    except BaseException:  # __str__ of an exception may raise anything
        args = []
    return _names(type(error)), args


def _names(kind: type[BaseException]) -> list[list[str]]:
    """For each class in the method resolution order: its name, then its direct bases."""
    return [[_name(base), *map(_name, base.__bases__)] for base in kind.__mro__[:20]]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
