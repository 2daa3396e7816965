"""What every supervisor shares: the request, the clock, the memory and the output of one family."""

import contextlib
import json
import os
import signal
import socket
from typing import Any

from . import ending
from .cell import Cell
from .codec import read_exactly
from .process import Child, now

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
    """The clock of a job, and the gauges of its memory and files.

    Time in which the job could run but got no core does not count, up to twice its limit: a busy
    machine must not turn right answers into timeouts.
    """

    def __init__(self, cell: Cell, seconds: float, memory_mb: int) -> None:
        self.cell = cell
        self.started = now()
        self.seconds = seconds
        self.credit = 0.0
        """Starved time of families that have ended."""
        self.memory_kb = memory_mb * 1024
        self.gauge = cell.disk_gauge()
        self.next_sample = self.started + SAMPLE_EVERY_S

    def wait_ms(self) -> int:
        """How long the supervisor may sleep."""
        return max(0, int((self.next_sample - now()) * 1000) + 1)

    def starved_s(self, *families: Child | None) -> float:
        """Time the job spent waiting for a core, as far as it counts."""
        waited = sum(
            ending.starved_s(self.cell.proc_fd, family.pid) for family in families if family
        )
        return min(self.credit + waited, 2 * self.seconds)

    def check(self, child: Child | None, helper: Child | None = None) -> None:
        """Raise Stopped when the time is up, or memory or files are over their limits."""
        moment = now()
        late = moment - self.started - self.seconds
        if late >= 0 and late >= self.starved_s(child, helper):
            raise Stopped("timeout")
        if moment >= self.next_sample:
            self.next_sample = moment + SAMPLE_EVERY_S
            if child and self.cell.memory_kb(child, self.memory_kb) > self.memory_kb:
                raise Stopped("memory")
            if self.gauge and self.gauge.is_over():
                raise Stopped("output_limit")


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
