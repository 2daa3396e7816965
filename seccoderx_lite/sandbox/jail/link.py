"""The tester's connection to the candidate: requests, replies, and callbacks into the tests.

Plain data crosses by value, everything else as a handle (`remote.Remote`). If there is no valid
answer (the process died or hung, sent garbage, lacks the function), `CandidateGone` is raised,
which `except Exception` and `pytest.raises` in a test do not catch.
"""

import json
import select
import socket
import time
from typing import Any, NoReturn

from .codec import CodecError, NotPlain, decode, encode, read_frame, send_frame
from .errors import BadTest, CandidateGone
from .exceptions import ExceptionClasses, are_class_names, derives_from, describe_error
from .handles import Handles
from .objects import World

_REPLY_SHAPES: dict[str, tuple[type, ...]] = {
    "missing": (),
    "opaque": (str,),
    "raised": (list, list, dict),
    "returned": (object, dict),
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
    return reply[1] not in ("raised", "exception") or are_class_names(content[0])


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
        self.loads = True
        """False when the code raised while it was loaded."""
        self.was_called = False
        """Whether a function of the candidate was called, and not only looked up."""
        self.exceptions = ExceptionClasses(self.ask)
        self.handles = Handles(self)
        self.generation = 0
        """The number of the current candidate: handles of an earlier one are lost with it."""
        self._requests = 0
        self._world = World()

    def request(self, action: str, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Send one request; returns the reply without its number."""
        if self.broken:
            self._give_up(self.broken.cause, str(self.broken))
        self.was_called = self.was_called or action != "look"
        channel = self.channel or self._start()
        self._requests += 1
        number = self._requests
        frame = self._encode((number, action, target, args, kwargs, self._world.changes()))
        reply = self._exchange(channel, frame)
        if not _is_reply(reply, number):
            self._give_up("tampered", "the candidate sent a reply to a request that was not made")
        kind, *content = reply[1:]
        if kind == "missing":
            self._give_up("failed", f"the candidate does not define {target!r}")
        if kind == "opaque" and action == "call":
            self._give_up("failed", content[0][:200])
        if kind == "raised" and derives_from("MemoryError", content[0]):
            self.trouble = CandidateGone("memory", "the candidate ran out of memory")
        return reply[1:]

    def ask(self, action: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the candidate do something with one of its objects; raises what that raises."""
        reply = self.request(action, target, list(args), kwargs)
        if reply[0] == "raised":
            raise self.exceptions.rebuilt(*reply[1:])
        _, result, changes = reply
        for place, value in changes.items():
            if isinstance(place, int) and 0 <= place < len(args):
                _copy_back(args[place], value)
        return result

    def _encode(self, value: object) -> bytes:
        try:
            return encode(value, self.handles.pack)
        except NotPlain as error:
            raise BadTest(
                f"the tests pass a value that the candidate cannot get: {error}"
            ) from None
        except CodecError as error:
            self._give_up("failed", str(error))

    def _exchange(self, channel: socket.socket, frame: bytes) -> Any:
        """Send, then wait for the reply, and meanwhile serve callbacks; bounded by the time."""
        try:
            send_frame(channel, frame)
            while True:
                self._await(channel)
                answer = read_frame(channel)
                if answer is None:
                    break
                message = decode(answer, self.handles)
                if not (isinstance(message, tuple) and message and message[0] == "ask"):
                    return message
                self._serve(channel, message)
        except TimeoutError:
            self._give_up("timeout", "the candidate did not answer in time")
        except CodecError as error:
            self._give_up("tampered", f"the candidate sent an unreadable reply: {error}")
        except OSError:
            pass
        self._give_up("crashed", "the candidate's process ended")

    def _serve(self, channel: socket.socket, message: tuple[Any, ...]) -> None:
        """Do what the candidate asks of an object that a test passed to it."""
        shapes = (str, object, list, dict)
        if len(message) != 5 or not all(map(isinstance, message[1:], shapes)):
            raise CodecError("not a request")
        action, target, args, kwargs = message[1:]
        try:
            reply = ("reply", "returned", self.handles.perform(action, target, args, kwargs))
            frame = encode(reply, self.handles.pack)
        except BadTest:
            raise
        except Exception as error:  # an exception of the tests goes to the code that called them
            frame = encode(("reply", "raised", *describe_error(error)), self.handles.pack)
        if self.channel is not channel:
            self._give_up("crashed", "the candidate ended while it called the tests")
        send_frame(channel, frame)

    def _start(self) -> socket.socket:
        """Ask a new candidate to load, and wait until it has."""
        channel, self._waiting = self._waiting or self._replacement(), None
        channel.settimeout(max(self.until - time.monotonic(), 0.001))
        try:
            reply = self._exchange(channel, encode(self._world.changes()))
        except CandidateGone as gone:
            self.broken = gone
            raise
        if reply != ("loaded",):
            self.broken = _load_failure(reply)
            self.loads = self.broken.cause != "failed"
            self._give_up(self.broken.cause, str(self.broken))
        self.channel = channel
        self.generation += 1
        self.handles.forget()
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

    def lost(self, note: str) -> NoReturn:
        """End the test because an object of an earlier candidate is used."""
        self._give_up("crashed", note)

    def _give_up(self, cause: str, note: str) -> NoReturn:
        if self.channel:
            self.channel.close()
            self.channel = None
        self.trouble = CandidateGone(cause, note)
        raise self.trouble


def _load_failure(reply: Any) -> CandidateGone:
    if not (isinstance(reply, tuple) and len(reply) == 3 and reply[0] == "broken"):
        return CandidateGone("tampered", "the candidate sent a reply before any request")
    names, args = reply[1:]
    if not (isinstance(names, list) and are_class_names(names) and isinstance(args, list)):
        return CandidateGone("tampered", "the candidate sent an unreadable reply")
    is_syntax, is_memory = derives_from("SyntaxError", names), derives_from("MemoryError", names)
    cause = "compile_error" if is_syntax else "memory" if is_memory else "failed"
    kind = names[0][0].rpartition(".")[2]
    text = ", ".join(str(part) for part in args)[:300]
    return CandidateGone(cause, f"the candidate cannot be loaded: {kind}: {text}")


def _copy_back(original: Any, changed: Any) -> None:
    """Apply to the caller's object the change that the candidate made to its copy."""
    if isinstance(original, list | bytearray) and type(original) is type(changed):
        original[:] = changed
    elif isinstance(original, dict | set) and type(original) is type(changed):
        original.clear()
        original.update(changed)
