"""The tester's end of the candidate: a module whose functions and exceptions stand for the real.

A call goes out as plain data and its answer comes back as plain data. What cannot be an answer (the
process died, hung, sent rubbish, lacks the function) raises `CandidateGone`, which no `except
Exception` and no `pytest.raises` in a test can take for the behaviour under test.
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
    """The candidate did not answer; `cause` is a status word."""

    def __init__(self, cause: str, note: str) -> None:
        super().__init__(note)
        self.cause = cause


class CandidateError(Exception):
    """Base of the candidate's own exception classes that derive from no builtin one."""


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
    """Conversation with the present candidate process; asks for a fresh one when it is needed."""

    def __init__(self, control: socket.socket, first: socket.socket, deadline: float) -> None:
        self.control = control
        self._waiting: socket.socket | None = first
        """The line to a candidate that has not been told to load yet."""
        self.deadline = deadline
        """When the job's time is up, on the monotonic clock."""
        self.until = deadline
        """When the present test's share of it is up."""
        self._starved_s = 0.0
        self.channel: socket.socket | None = None
        self.trouble: CandidateGone | None = None
        """What went wrong in the present test, even if the test swallowed it."""
        self.broken: CandidateGone | None = None
        """Why no candidate can be had at all: it does not load."""
        self.was_called = False
        """Whether a function of the candidate was called, not only looked up."""
        self._requests = 0
        self._classes: dict[str, type[BaseException]] = {}

    def request(self, action: str, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """One call; returns the reply after its number."""
        if self.broken:
            self._give_up(self.broken.cause, str(self.broken))
        self.was_called = self.was_called or action == "call"
        self._requests += 1
        frame = encode((self._requests, action, name, args, kwargs))
        channel = self.channel or self._start()
        reply = self._exchange(channel, frame)
        if not _is_reply(reply, self._requests):
            self._give_up("tampered", "the candidate sent a reply that was not asked for")
        kind, *content = reply[1:]
        if kind == "missing":
            self._give_up("failed", f"the candidate does not define {name!r}")
        if kind == "opaque" and action == "call":
            self._give_up("failed", f"{name}: {content[0][:200]}")
        if kind == "raised" and _derives_from("MemoryError", content[0]):
            self.trouble = CandidateGone("memory", "the candidate ran out of memory")
        return reply[1:]

    def _exchange(self, channel: socket.socket, frame: bytes) -> Any:
        """Send, then wait for one frame; the socket's time-out bounds both."""
        try:
            send_frame(channel, frame)
            self._await(channel)
            answer = read_frame(channel)
            if answer is not None:
                return decode(answer)
        except TimeoutError:
            self._give_up("timeout", "the candidate did not answer in time")
        except CodecError as error:
            self._give_up("tampered", f"the candidate sent no readable reply: {error}")
        except OSError:
            pass
        self._give_up("crashed", "the candidate's process ended")

    def _start(self) -> socket.socket:
        """Have a fresh candidate load, and wait until it has."""
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
        """Another candidate from the supervisor, which ends the last one."""
        self.control.send(json.dumps({"spawn": True}).encode())
        _, descriptors, _, _ = socket.recv_fds(self.control, 1 << 12, 1)
        return socket.socket(fileno=descriptors[0])

    def allow(self, share: float) -> None:
        """Let the coming test use this share of the time that is left."""
        left = self.deadline - time.monotonic()
        if left < 0.5:
            left += self._gain()
        self.until = time.monotonic() + share * left
        if self.channel:
            self.channel.settimeout(max(share * left, 0.001))

    def _await(self, channel: socket.socket) -> None:
        """Wait until the candidate says something; time in which it got no core is given back."""
        while not select.select([channel], [], [], max(self.until - time.monotonic(), 0))[0]:
            gain = self._gain()
            if gain < 0.005:
                raise TimeoutError
            self.until += gain

    def _gain(self) -> float:
        """Seconds the job was starved since this was last asked; they are added to its time."""
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
        """The class that stands for one of the candidate's, found by its name; built if new."""
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
        return CandidateGone("tampered", "the candidate sent a reply before it was asked")
    names, args = reply[1:]
    if not (isinstance(names, list) and _are_class_names(names) and isinstance(args, list)):
        return CandidateGone("tampered", "the candidate sent no readable reply")
    is_syntax, is_memory = _derives_from("SyntaxError", names), _derives_from("MemoryError", names)
    cause = "compile_error" if is_syntax else "memory" if is_memory else "failed"
    kind = names[0][0].rpartition(".")[2]
    text = ", ".join(str(part) for part in args)[:300]
    return CandidateGone(cause, f"the candidate cannot be loaded: {kind}: {text}")


def _known_class(name: str) -> type[BaseException] | None:
    """A builtin exception, or one of a standard module that the tests themselves imported."""
    module_name, _, class_name = name.rpartition(".")
    module: object = builtins if module_name == "builtins" else None
    if module_name.partition(".")[0] in sys.stdlib_module_names:
        module = sys.modules.get(module_name)
    found = getattr(module, class_name, None) if module is not None else None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _rebuild(kind: type[BaseException], args: list[Any]) -> BaseException:
    """An instance with the given arguments, made without running a constructor in Python.

    The members of an exception group do not travel.
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
    """Stands for a function of the candidate."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self.__name__ = link, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the real function; raises what it raised."""
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
    """Repeat on the caller's object what the candidate did to its copy."""
    if isinstance(original, list | bytearray) and type(original) is type(changed):
        original[:] = changed
    elif isinstance(original, dict | set) and type(original) is type(changed):
        original.clear()
        original.update(changed)


def _names_of(listed: Any) -> list[str]:
    """What `from candidate import *` may bring: nothing that would replace what tests rely on."""
    kept = {*dir(builtins), "pytest"}
    return [name for name in listed if isinstance(name, str) and name not in kept]


class CandidateModule(types.ModuleType):
    """What `from candidate import name` finds."""

    def __init__(self, link: Link) -> None:
        super().__init__("candidate")
        self._link = link
        self._found: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """A proxy, an exception class or a constant of the candidate; never fails."""
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
