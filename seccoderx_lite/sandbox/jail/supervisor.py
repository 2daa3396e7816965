"""Parts of both supervisors: the request, the output, and the watch over time, memory and disk."""

import contextlib
import json
import os
import signal
import socket
import time
from typing import Any

from . import process_tree
from .cell import Cell
from .codec import read_exactly
from .process import Child

SAMPLE_EVERY_S = 0.02
COUNT_AFTER_S = 0.2
"""From this age of a job on, each sample counts the processor time of its processes."""
_PIPE_READ = 1 << 16


class Stopped(Exception):
    """The job must end: timeout, memory, output_limit, tester gone or trainer gone."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read one request and the descriptors that come with it."""
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
    body = read_exactly(connection, int.from_bytes(head, "big"))
    if body is None:
        os._exit(0)
    return json.loads(body), descriptors


class Output:
    """The first `limit` bytes from one pipe."""

    def __init__(self, limit: int) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.limit = limit
        self.data = bytearray()
        self.is_closed = False

    def drain(self) -> bool:
        """Read what the pipe holds; False if that exceeds the limit."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.read_fd, _PIPE_READ):
                self.data += piece
                if len(self.data) > self.limit:
                    del self.data[self.limit :]
                    return False
            self.is_closed = True
        return True

    def text(self) -> str:
        """The output as text, with undecodable bytes replaced."""
        return self.data.decode("utf-8", "replace")


class Watch:
    """Enforces a job's limits of time, memory and disk.

    Time in which the job waits for a core because of other work on the machine does not count, up
    to twice its limit: a busy machine must not turn correct code into timeouts.
    """

    def __init__(self, cell: Cell, seconds: float, memory_mb: int) -> None:
        self.cell = cell
        self.started = time.monotonic()
        self.seconds = seconds
        self.credit = 0.0
        """Time that ended families waited for a core, in seconds."""
        self.waiting = process_tree.Waiting()
        self.memory_kb = memory_mb * 1024
        self.gauge = cell.disk_gauge()
        self.next_sample = self.started + SAMPLE_EVERY_S

    def wait_ms(self) -> int:
        """Time until the next sample is due."""
        return max(0, int((self.next_sample - time.monotonic()) * 1000) + 1)

    def starved_s(self, *families: Child | None) -> float:
        """Seconds the job waited for a core, capped at twice its time limit."""
        waited = self.waiting.look(self.cell.proc_fd, [f.pid for f in families if f])
        return min(self.credit + waited, 2 * self.seconds)

    def end_count(self, family: Child) -> None:
        """Keep the credit of a family that is about to be ended."""
        self.credit = self.starved_s(family)
        self.waiting = process_tree.Waiting()

    def check(self, child: Child | None, helper: Child | None = None) -> None:
        """Raise Stopped if the time is up, or memory or files exceed their limits."""
        moment = time.monotonic()
        late = moment - self.started - self.seconds
        if late >= 0 and late >= self.starved_s(child, helper):
            raise Stopped("timeout")
        if moment >= self.next_sample:
            self.next_sample = moment + SAMPLE_EVERY_S
            if moment - self.started > COUNT_AFTER_S:
                self.starved_s(child, helper)  # counts processes that will have ended by then
            if child and self.cell.memory_kb(child, self.memory_kb) > self.memory_kb:
                raise Stopped("memory")
            if self.gauge and self.gauge.is_over():
                raise Stopped("output_limit")


def describe_end(status: int | None) -> str:
    """A wait status in words: "exit 3" or "signal SIGSEGV"."""
    if status is None:
        return "unknown"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(number).name}"
        return f"signal {number}"
    return f"exit {os.WEXITSTATUS(status)}"
