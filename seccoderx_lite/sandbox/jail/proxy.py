"""The tester's side of the candidate: a module of proxies for its functions and exceptions.

A call is sent as plain data, and its answer comes back as plain data. If there is no valid answer
(the process died or hung, sent garbage, lacks the function), `CandidateGone` is raised, which
`except Exception` and `pytest.raises` in a test do not catch.
"""

import builtins
import json
import select
import socket
import sys
import time
import types
from collections.abc import Callable
from typing import Any, NoReturn

from .codec import CodecError, decode, encode, read_frame, send_frame


class CandidateGone(BaseException):
    """The candidate gave no valid answer; `cause` is the status of the test."""

    def __init__(self, cause: str, note: str) -> None:
        super().__init__(note)
        self.cause = cause


class CandidateError(Exception):
    """Base of the candidate's exception classes that do not derive from a builtin one."""


_REPLY_SHAPES: dict[str, tuple[type, ...]] = {
    "missing": (),
    "opaque": (str,),
    "raised": (list, list),
    "returned": (object, dict),
    "callable": (),
    "value": (object,),
    "exception": (list,),
}


def _is_reply(reply: Any, number: int) -> bool:
    """Whether this is a well-formed answer to request `number`."""
    if not isinstance(reply, tuple) or len(reply) < 2 or reply[0] != number:
        return False
    shape = _REPLY_SHAPES.get(reply[1]) if isinstance(reply[1], str) else None
    content = reply[2:]
    if shape is None or len(shape) != len(content):
        return False
    if not all(isinstance(part, kind) for part, kind in zip(content, shape, strict=True)):
        return False
    return reply[1] not in ("raised", "exception") or _are_class_names(content[0])


def _are_class_names(classes: list[Any]) -> bool:
    return 0 < len(classes) <= 20 and all(
        isinstance(names, list)
        and 0 < len(names) <= 20
        and all(isinstance(name, str) and len(name) < 300 and name.isprintable() for name in names)
        for names in classes
    )


class Link:
    """Requests to the current candidate process; asks for a new one when needed."""

    def __init__(self, control: socket.socket, first: socket.socket, deadline: float) -> None:
        self.control = control
        self._waiting: socket.socket | None = first
        """The socket of a candidate that has not been asked to load yet."""
        self.deadline = deadline
        """End of the job's time, on the monotonic clock."""
        self.until = deadline
        """End of the current test's share of it."""
        self._starved_s = 0.0
        self.channel: socket.socket | None = None
        self.trouble: CandidateGone | None = None
        """What went wrong in the current test, even if the test caught it."""
        self.broken: CandidateGone | None = None
        """Why the candidate cannot be loaded; None if it can, or before the first try."""
        self.was_called = False
        """Whether a function of the candidate was called, and not only looked up."""
        self._requests = 0
        self._classes: dict[str, type[BaseException]] = {}

    def request(self, action: str, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Send one request; returns the reply without its number."""
        if self.broken:
            self._give_up(self.broken.cause, str(self.broken))
        self.was_called = self.was_called or action == "call"
        self._requests += 1
        frame = encode((self._requests, action, name, args, kwargs))
        channel = self.channel or self._start()
        reply = self._exchange(channel, frame)
        if not _is_reply(reply, self._requests):
            self._give_up("tampered", "the candidate sent a reply to a request that was not made")
        kind, *content = reply[1:]
        if kind == "missing":
            self._give_up("failed", f"the candidate does not define {name!r}")
        if kind == "opaque" and action == "call":
            self._give_up("failed", f"{name}: {content[0][:200]}")
        if kind == "raised" and _derives_from("MemoryError", content[0]):
            self.trouble = CandidateGone("memory", "the candidate ran out of memory")
        return reply[1:]

    def _exchange(self, channel: socket.socket, frame: bytes) -> Any:
        """Send, then wait for one frame; the socket's timeout bounds both."""
        try:
            send_frame(channel, frame)
            self._await(channel)
            answer = read_frame(channel)
            if answer is not None:
                return decode(answer)
        except TimeoutError:
            self._give_up("timeout", "the candidate did not answer in time")
        except CodecError as error:
            self._give_up("tampered", f"the candidate sent an unreadable reply: {error}")
        except OSError:
            pass
        self._give_up("crashed", "the candidate's process ended")

    def _start(self) -> socket.socket:
        """Ask a new candidate to load, and wait until it has."""
        channel, self._waiting = self._waiting or self._replacement(), None
        channel.settimeout(max(self.until - time.monotonic(), 0.001))
        try:
            reply = self._exchange(channel, b"load")
        except CandidateGone as gone:
            self.broken = gone
            raise
        if reply != ("loaded",):
            self.broken = _load_failure(reply)
            self._give_up(self.broken.cause, str(self.broken))
        self.channel = channel
        return channel

    def _replacement(self) -> socket.socket:
        """The socket of another candidate; the supervisor ends the last one."""
        self.control.send(json.dumps({"spawn": True}).encode())
        _, descriptors, _, _ = socket.recv_fds(self.control, 1 << 12, 1)
        return socket.socket(fileno=descriptors[0])

    def allow(self, share: float) -> None:
        """Let the next test use this share of the time that is left."""
        left = self.deadline - time.monotonic()
        if left < 0.5:
            left += self._gain()
        self.until = time.monotonic() + share * left
        if self.channel:
            self.channel.settimeout(max(share * left, 0.001))

    def _await(self, channel: socket.socket) -> None:
        """Wait for data from the candidate; time in which it waited for a core does not count."""
        while not select.select([channel], [], [], max(self.until - time.monotonic(), 0))[0]:
            gain = self._gain()
            if gain < 0.005:
                raise TimeoutError
            self.until += gain

    def _gain(self) -> float:
        """Add the time the job waited for a core since the last call to its time; returns it."""
        self.control.send(json.dumps({"starved": True}).encode())
        total = float(json.loads(self.control.recv(4096))["starved_s"])
        gain, self._starved_s = max(total - self._starved_s, 0.0), max(total, self._starved_s)
        self.deadline += gain
        return gain

    def _give_up(self, cause: str, note: str) -> NoReturn:
        if self.channel:
            self.channel.close()
            self.channel = None
        self.trouble = CandidateGone(cause, note)
        raise self.trouble

    def exception_class(self, classes: list[list[str]]) -> type[BaseException]:
        """The tester's class for one of the candidate's: a known one of that name, or a new one."""
        for name, *bases in reversed(classes):
            if name not in self._classes:
                self._classes[name] = _known_class(name) or self._build_class(name, bases)
        return self._classes[classes[0][0]]

    def _build_class(self, name: str, bases: list[str]) -> type[BaseException]:
        plain = ("builtins.Exception", "builtins.BaseException", "builtins.object")
        known = [self._classes[base] for base in bases if base in self._classes]
        special = [kind for kind in known if kind is not Exception and kind is not BaseException]
        parents = tuple(special) if set(bases) - set(plain) and special else (CandidateError,)
        try:
            return type(name.rpartition(".")[2], parents, {})
        except TypeError:
            return CandidateError


def _derives_from(builtin: str, classes: list[list[str]]) -> bool:
    return any(names[0] == f"builtins.{builtin}" for names in classes)


def _load_failure(reply: Any) -> CandidateGone:
    if not (isinstance(reply, tuple) and len(reply) == 3 and reply[0] == "broken"):
        return CandidateGone("tampered", "the candidate sent a reply before any request")
    names, args = reply[1:]
    if not (isinstance(names, list) and _are_class_names(names) and isinstance(args, list)):
        return CandidateGone("tampered", "the candidate sent an unreadable reply")
    is_syntax, is_memory = _derives_from("SyntaxError", names), _derives_from("MemoryError", names)
    cause = "compile_error" if is_syntax else "memory" if is_memory else "failed"
    kind = names[0][0].rpartition(".")[2]
    text = ", ".join(str(part) for part in args)[:300]
    return CandidateGone(cause, f"the candidate cannot be loaded: {kind}: {text}")


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


class FunctionProxy:
    """Calls a function of the candidate."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self.__name__ = link, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the candidate's function; raises what it raises."""
        reply = self._link.request("call", self.__name__, list(args), kwargs)
        if reply[0] == "raised":
            raise _rebuild(self._link.exception_class(reply[1]), reply[2])
        _, result, changes = reply
        for place, value in changes.items():
            if isinstance(place, int) and 0 <= place < len(args):
                _copy_back(args[place], value)
        return result

    def __repr__(self) -> str:
        return f"<candidate function {self.__name__}>"


def _copy_back(original: Any, changed: Any) -> None:
    """Apply to the caller's object the change that the candidate made to its copy."""
    if isinstance(original, list | bytearray) and type(original) is type(changed):
        original[:] = changed
    elif isinstance(original, dict | set) and type(original) is type(changed):
        original.clear()
        original.update(changed)


def _names_of(listed: Any) -> list[str]:
    """What `from candidate import *` may import: no name that shadows builtins or pytest."""
    kept = {*dir(builtins), "pytest"}
    return [name for name in listed if isinstance(name, str) and name not in kept]


class CandidateModule(types.ModuleType):
    """The module `candidate`, as the tests import it."""

    def __init__(self, link: Link) -> None:
        super().__init__("candidate")
        self._link = link
        self._found: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """A proxy, an exception class or a constant; a missing name fails when it is called."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        if name not in self._found:
            self._found[name] = self._look(name)
        return self._found[name]

    def _look(self, name: str) -> Any:
        link = self._link
        try:
            reply = link.request("look", name, [], {})
        except CandidateGone as gone:
            link.broken = link.broken or gone
            return FunctionProxy(link, name)
        readers: dict[str, Callable[[], Any]] = {
            "exception": lambda: link.exception_class(reply[1]),
            "value": lambda: _names_of(reply[1]) if name == "__all__" else reply[1],
        }
        return readers.get(reply[0], lambda: FunctionProxy(link, name))()
