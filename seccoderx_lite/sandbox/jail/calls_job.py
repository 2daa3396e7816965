"""Supervises a `calls` job: one tester, and one candidate at a time, in separate jails.

The tester starts with a socket to the first candidate, which loads the code when the tester asks.
If a candidate dies, the tester asks for another one. The tests reach the tester through a
descriptor that this process never reads, and closes before the first candidate starts.
"""

import contextlib
import json
import os
import select
import socket
import time
from typing import Any

from . import candidate, tester
from .cell import Cell
from .process import Bounds, Child
from .supervisor import Output, Stopped, Watch, describe_end

TESTER_MEMORY_MB = 1024
REPORT_GRACE_S = 0.5
"""Time after the end of the job's time in which the tester may still report."""


class CallsJob:
    """State of one job while its supervisor's loop runs."""

    def __init__(self, cell: Cell, request: dict[str, Any], connection: socket.socket) -> None:
        self.cell, self.connection = cell, connection
        self.parts: list[str] = request["parts"]
        limits = request["limits"]
        self.bounds = Bounds(limits["timeout_s"], limits["memory_mb"], limits["processes"])
        self.watch = Watch(cell, self.bounds.seconds + REPORT_GRACE_S, self.bounds.memory_mb)
        self.output = Output(limits["output_bytes"])
        self.null = os.open("/dev/null", os.O_RDWR)
        self.candidate: Child | None = None
        self.reports: list[dict[str, Any]] = []
        self.done = False
        self.ran_out = False
        """Whether the kernel killed a candidate because it used too much memory."""

    def start(self, tests_fd: int) -> None:
        """Start the tester, which alone reads the tests, and the first candidate."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        to_candidate, to_tester = socket.socketpair()
        seconds = self.bounds.seconds
        bounds = Bounds(seconds, TESTER_MEMORY_MB, self.bounds.processes)
        keep = {0: self.null, 1: self.null, 2: self.null}
        keep |= {3: theirs.fileno(), 4: tests_fd, 5: to_candidate.fileno()}
        deadline = time.monotonic() + seconds
        work = self.cell.work
        self.tester = self.cell.spawn(
            lambda: tester.main(3, 4, 5, deadline, work),
            bounds,
            keep,
            watched=False,
            in_cgroup=False,
        )
        for end in (theirs, to_candidate):
            end.close()
        os.close(tests_fd)
        self._start_candidate(to_tester)

    def serve(self) -> str:
        """Run until the tester is done; returns "done" or why the job was stopped."""
        poll = select.poll()
        for source in (self.control, self.output.read_fd, self.tester.status_fd, self.connection):
            poll.register(source, select.POLLIN)
        try:
            while not self.done:
                ready = {descriptor for descriptor, _ in poll.poll(self.watch.wait_ms())}
                self._react(ready)
                self.watch.check(self.candidate, self.tester)
        except Stopped as stopped:
            return stopped.reason
        return "done"

    def _react(self, ready: set[int]) -> None:
        if self.connection.fileno() in ready:
            raise Stopped("trainer gone")
        if self.output.read_fd in ready and not self.output.drain():
            raise Stopped("output_limit")
        if self.control.fileno() in ready:
            data = self.control.recv(1 << 17)
            if not data:
                raise Stopped("tester gone")
            self._handle(json.loads(data))
        elif self.tester.status_fd in ready:
            raise Stopped("tester gone")

    def _handle(self, message: dict[str, Any]) -> None:
        if "spawn" in message:
            self._replace_candidate()
        elif "starved" in message:
            reply = {"starved_s": self.watch.starved_s(self.candidate, self.tester)}
            self.control.send(json.dumps(reply).encode())
        elif "done" in message:
            self.done = True
        else:
            self.reports.append(message)

    def _replace_candidate(self) -> None:
        """Give the tester a new candidate and report how the last one ended."""
        last = self.end_candidate()
        ours, theirs = socket.socketpair()
        self._start_candidate(theirs)
        reply = json.dumps({"last": last}).encode()
        with contextlib.suppress(OSError):
            socket.send_fds(self.control, [reply], [ours.fileno()])
        ours.close()

    def _start_candidate(self, channel: socket.socket) -> None:
        keep = {0: self.null, 1: self.output.write_fd, 2: self.output.write_fd, 3: channel.fileno()}
        parts = self.parts
        self.candidate = self.cell.spawn(
            lambda: candidate.main(3, parts), self.bounds, keep, watched=False
        )
        channel.close()

    def end_candidate(self, *others: Child) -> str:
        """End the current candidate, if any, and others; returns how the candidate ended."""
        if self.candidate is None:
            self.cell.end(*others)
            return ""
        self.watch.end_count(self.candidate)
        self.cell.end(self.candidate, *others)
        self.ran_out = self.ran_out or self.cell.ran_out_of_memory()
        how = describe_end(self.candidate.ended)
        self.candidate = None
        return how


def run(
    cell: Cell, request: dict[str, Any], descriptors: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Run one job; returns the tester's reports and how the job ended."""
    cell.make_home()
    job = CallsJob(cell, request, connection)
    try:
        job.start(descriptors[0])
        end = job.serve()
    finally:
        last = job.end_candidate(job.tester)
        within = job.output.drain()
        cell.remove_home()
    if end == "done" and not within:
        end = "output_limit"
    seconds = time.monotonic() - job.watch.started
    is_clean = end == "done" and all(report.get("cause") == "passed" for report in job.reports)
    if cell.neighbours and not is_clean:
        cell.neighbours.check_room(job.bounds.processes)
    return {
        "end": end,
        "reports": job.reports,
        "last": last,
        "output": job.output.text(),
        "seconds": seconds,
        "ran_out": job.ran_out,
    }
