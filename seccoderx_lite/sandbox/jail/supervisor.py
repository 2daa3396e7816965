"""What every supervisor shares: the request, the clock, the memory and the output of one family."""

import contextlib
import json
import os
import signal
import socket
from typing import Any

from .cell import Cell, Child, now
from .codec import read_exactly

SAMPLE_EVERY_S = 0.02
_PIPE_READ = 1 << 16


class Stopped(Exception):
    """The job ends here: timeout, memory, output_limit, or the trainer has gone."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def receive(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read one request and the descriptors that came with it."""
    head, descriptors, _, _ = socket.recv_fds(line, 4, 2)
    body = read_exactly(line, int.from_bytes(head, "big"))
    if body is None:
        os._exit(0)
    return json.loads(body), descriptors


class Output:
    """Bytes from one pipe, kept up to a bound."""

    def __init__(self, limit: int) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.limit = limit
        self.data = bytearray()
        self.is_closed = False

    def drain(self) -> bool:
        """Take what has come; False when it is more than allowed."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.read_fd, _PIPE_READ):
                self.data += piece
                if len(self.data) > self.limit:
                    del self.data[self.limit :]
                    return False
            self.is_closed = True
        return True

    def text(self) -> str:
        """What was kept, with undecodable bytes replaced."""
        return self.data.decode("utf-8", "replace")


class Watch:
    """The clock and the memory gauge of a job."""

    def __init__(self, cell: Cell, seconds: float, memory_mb: int) -> None:
        self.cell = cell
        self.started = now()
        self.deadline = self.started + seconds
        self.memory_kb = memory_mb * 1024
        self.next_sample = self.started + SAMPLE_EVERY_S

    def wait_ms(self) -> int:
        """How long the supervisor may sleep."""
        return max(0, int(min(self.next_sample, self.deadline) * 1000 - now() * 1000) + 1)

    def check(self, child: Child | None) -> None:
        """Raise Stopped when the time is up or the family holds too much memory."""
        moment = now()
        if moment >= self.deadline:
            raise Stopped("timeout")
        if moment >= self.next_sample:
            self.next_sample = moment + SAMPLE_EVERY_S
            if child and self.cell.memory_kb(child, self.memory_kb) > self.memory_kb:
                raise Stopped("memory")


def describe_end(status: int | None) -> str:
    """Words for a wait status: "exit 3" or "signal SIGSEGV"."""
    if status is None:
        return "unknown"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(number).name}"
        return f"signal {number}"
    return f"exit {os.WEXITSTATUS(status)}"
