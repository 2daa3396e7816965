"""Runs small jobs inside the starter before it serves any.

While code runs, the interpreter specialises instructions and fills caches. Done before the fork,
every job inherits these pages instead of copying and filling them again. All texts here are fixed;
nothing of a job is used.
"""

import json
import os
import socket
import sys
import time

from . import calls_job, candidate, objects, private_root, tester
from . import syscalls as sc
from .cell import Cell
from .codec import encode, send_frame

JOBS, TURNS = 3, 12
"""Whole jobs, and repetitions of tester and candidate; the interpreter specialises after 8."""
_PARTS = ["", "def solve(n, *more, **named): return [n]", ""]
_TESTS = """
import pytest
from candidate import solve

@pytest.mark.security
def test_one():
    assert solve(1, b=None) == [1]
"""
_PLAN = json.dumps({"tests": ["test_one"], "source": _TESTS}).encode()
_LIMITS = {"timeout_s": 5, "memory_mb": 512, "output_bytes": 1024, "processes": 8}
_REQUESTS = (
    encode(None),
    encode((1, "look", "solve", [], {}, None)),
    encode((2, "call", "solve", [1], {"b": None}, None)),
)
_HANDLE = encode((1, "value", send_frame), lambda value: ("h", [0, *objects.describe(value)]))
_REPLIES = (encode(("loaded",)), _HANDLE, encode((2, "returned", [1], {})))


def warm_up(cell: Cell, connection: socket.socket) -> None:
    """Run jobs, and the tester and the candidate alone, in this process; `cell` is entered."""
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(TURNS):
        _run_candidate()
        _run_tester()
    for _ in range(JOBS):
        calls_job.run(cell, {"parts": _PARTS, "limits": _LIMITS}, [_tests_file()], connection)
        os.chdir("/")
        if cell.has("namespaces"):
            for folder in (*private_root.WRITABLE, cell.home):
                sc.unmount(folder)
    for descriptor in set(os.listdir("/proc/self/fd")) - before:
        try:
            os.close(int(descriptor))
        except OSError:  # the one that listed the folder
            continue


def _run_candidate() -> None:
    tester_end, candidate_end = _conversation(_REQUESTS)
    candidate.main(candidate_end.detach(), _PARTS)
    tester_end.close()


def _run_tester() -> None:
    candidate_end, tester_end = _conversation(_REPLIES)
    supervisor_end, control = socket.socketpair()
    until = time.monotonic() + 5
    tester.main(control.detach(), _tests_file(), tester_end.detach(), until, "/")
    for name in ("candidate", "tests", "pytest"):
        del sys.modules[name]
    for end in (candidate_end, supervisor_end):
        end.close()


def _conversation(frames: tuple[bytes, ...]) -> tuple[socket.socket, socket.socket]:
    """Sender and receiver of a socket pair; the sender has sent all `frames` and ended."""
    sender, receiver = socket.socketpair()
    for frame in frames:
        send_frame(sender, frame)
    sender.shutdown(socket.SHUT_WR)
    return sender, receiver


def _tests_file() -> int:
    descriptor = os.memfd_create("tests", os.MFD_CLOEXEC)
    os.write(descriptor, _PLAN)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
