"""The driver inside the candidate's process: loads the code and answers requests one by one.

Nobody trusts this process: the code under test may replace everything in it. What it sends is read
as plain data, and only taken as the value that the function returned.
"""

import collections
import contextlib
import functools
import gc
import os
import random
import socket
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from . import objects, values
from .codec import CodecError, decode, encode, read_frame, send_frame
from .exceptions import class_names, describe_error
from .remote import Info, Remote


def main(channel_fd: int, parts: list[str]) -> None:
    """Load the module `candidate` when asked, and answer requests until the socket closes.

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
    frame = read_frame(channel)
    if frame is None:
        return
    server = _Server(module, channel)
    server.world.follow(decode(frame))
    try:
        for part in filter(None, parts):
            exec(_compile(part), module.__dict__)
    except BaseException as error:  # a candidate may raise anything while it loads
        names, args, _ = describe_error(error)
        server.send(encode(("broken", names, args)))
        return
    server.send(encode(("loaded",)))
    while (request := server.receive()) is not None:
        server.serve(request)


def _compile(code: str) -> types.CodeType:
    """The code object; every failure to compile counts as a syntax error."""
    try:
        return compile(code, "candidate.py", "exec", dont_inherit=True)
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise SyntaxError(str(error)) from None


class _Server:
    """Answers the tester, and asks it about objects of the tests: a `remote.Peer`."""

    decides = False

    def __init__(self, module: types.ModuleType, channel: socket.socket) -> None:
        self._module, self._channel = module, channel
        self._turn = threading.RLock()
        """Held by the thread that talks with the tester."""
        self._loans = objects.Loans()
        self._proxies: dict[int, Remote] = {}
        self.world = objects.Follower()

    # The protocol

    def receive(self) -> Any:
        """The next request; None at the end."""
        with self._turn:
            frame = read_frame(self._channel)
        return None if frame is None else decode(frame, self)

    def send(self, frame: bytes) -> None:
        """Send a reply."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        with self._turn:
            send_frame(self._channel, frame)

    def serve(self, request: Any) -> None:
        """Carry out a request and send its result."""
        number, action, target, args, kwargs, world = request
        try:
            self.world.follow(world)
            reply = self._answer(number, action, target, args, kwargs)
        except BaseException as error:  # whatever the code raises is its answer
            reply = self._encode((number, "raised", *describe_error(error)))
        self.send(reply)

    def ask(self, action: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the tester do something with one of its objects."""
        frame = self._encode(("ask", action, target, list(args), kwargs))
        with self._turn:
            send_frame(self._channel, frame)
            while (request := self.receive()) is not None:
                if request[0] == "reply":
                    break
                self.serve(request)
            else:
                os._exit(0)
        if request[1] == "raised":
            raise _make_error(self._class(request[2]), request[3])
        return request[2]

    def knows(self, names: tuple[str, ...]) -> bool:
        """The code may ask anything of the tests' objects."""
        return True

    def class_of(self, ref: Any, info: Info) -> Any:
        """The code makes no objects of the tests' classes from their objects."""
        raise TypeError(f"{info.names[0]} is a class of the tests")

    def _encode(self, value: object) -> bytes:
        return encode(value, self._pack)

    # Requests

    def _answer(
        self, number: int, action: str, target: Any, args: list[Any], kwargs: dict[str, Any]
    ) -> bytes:
        if isinstance(target, str):
            if target == "__all__":
                return self._encode((number, "value", _publicclass_names(self._module)))
            if not hasattr(self._module, target):
                return encode((number, "missing"))
        if action == "look":
            return self._look(number, self._own(target))
        if action == "call" and isinstance(target, str):
            target = self._own(target)
        if target is None:
            target = self._module
        before = self._snapshots(args) if action == "call" else {}
        result = self._loans.perform(action, target, args, kwargs)
        return self._returned(number, result, self._changes(args, before))

    def _look(self, number: int, target: object) -> bytes:
        """A module attribute: a value, an exception class, or a handle."""
        if isinstance(target, type) and issubclass(target, BaseException):
            return encode((number, "exception", class_names(target)))
        return self._encode((number, "value", target))

    def _returned(self, number: int, result: object, changes: dict[int, object]) -> bytes:
        try:
            return self._encode((number, "returned", result, changes))
        except CodecError as error:
            return encode((number, "opaque", str(error)))

    def _snapshots(self, args: list[object]) -> dict[int, bytes]:
        """The mutable arguments before the call, by position."""
        kinds = (list, dict, set, bytearray)
        return {
            place: self._encode(value) for place, value in enumerate(args) if type(value) in kinds
        }

    def _changes(self, args: list[object], before: dict[int, bytes]) -> dict[int, object]:
        """The arguments that the call changed in place, by position."""
        changed: dict[int, object] = {}
        for place, was in before.items():
            with contextlib.suppress(CodecError):
                if self._encode(args[place]) != was:
                    changed[place] = args[place]
        return changed

    # Objects that cross

    def _pack(self, value: object) -> tuple[str, Any] | None:
        if isinstance(value, Remote):
            return "c", value._remote_ref
        if isinstance(value, BaseException):
            return "x", list(describe_error(value))
        if isinstance(value, type) and issubclass(value, BaseException):
            return "X", class_names(value)
        if isinstance(value, type) and values.PLAIN_CLASSES.get(value.__name__) is value:
            return "T", value.__name__
        number = self._loans.number(value)
        return objects.pack_record(value, number) or ("h", [number, *objects.describe(value)])

    def __getitem__(self, tag: str) -> Callable[[Any], Any]:
        """What reads the body of an object with this tag; raises KeyError."""
        return functools.partial(_READERS[tag], self)

    def _error(self, body: list[Any]) -> BaseException:
        return _make_error(self._class(body[0]), body[1])

    def _own(self, ref: Any) -> Any:
        """An object of this process, by number, by its name in the module, or as a class."""
        if isinstance(ref, str):
            return getattr(self._module, ref)
        if isinstance(ref, list):
            return type(self._loans.get(ref[0]))
        return self._loans.get(ref)

    def _proxy(self, body: list[Any]) -> Any:
        number, *described = body
        if number not in self._proxies:
            self._proxies[number] = objects.remote_from(self, number, described)
        return self._proxies[number]

    def _class(self, names: list[list[str]]) -> type[BaseException]:
        """The class of an exception from the tests, or its first base that exists here."""
        for name, *_ in names:
            module, _, path = name.rpartition(".")
            found = getattr(sys.modules.get(module), path, None)
            if isinstance(found, type) and issubclass(found, BaseException):
                return found
        return Exception

    def _named(self, name: str) -> Any:
        """A class of the module by its full name, or None."""
        found: Any = self._module
        for part in name.split(".")[1:]:
            found = getattr(found, part, None)
        return found

    def _member(self, body: list[Any]) -> Any:
        kind, member, value = self._named(body[0]), body[1], body[2]
        return values.member_of(kind, member, value)

    def _named_tuple(self, body: list[Any]) -> Any:
        names, fields, items = body
        own = self._named(names[0])
        if isinstance(own, type) and getattr(own, "_fields", None) == tuple(fields):
            return tuple.__new__(own, items)
        made = collections.namedtuple(names[0].rpartition(".")[2], fields)  # type: ignore[misc]
        return tuple.__new__(made, items)


_READERS: dict[str, Callable[[_Server, Any], Any]] = {
    "H": _Server._own,
    "c": _Server._proxy,
    "L": lambda server, name: values.standard_object(name),
    "E": _Server._member,
    "N": _Server._named_tuple,
    "x": _Server._error,
    "X": _Server._class,
    "z": lambda server, body: None,
    "P": lambda server, body: functools.partial(body[0], *body[1], **body[2]),
}


def _publicclass_names(module: types.ModuleType) -> list[str]:
    """The names that `from candidate import *` imports."""
    listed = getattr(module, "__all__", None)
    return listed or [name for name in vars(module) if not name.startswith("_")]


def _make_error(kind: type[BaseException], args: list[Any]) -> BaseException:
    try:
        return kind(*args)
    except Exception:  # a constructor with other parameters
        return Exception(*args)
