"""A small job run inside the starter, before it serves any.

What the interpreter builds up while code runs (specialised instructions, caches of attributes and
of abstract classes) then is there in every process forked from the starter, and need not be built
on freshly copied pages of memory in each job anew. All texts are ours; none of a job comes here.
"""

import json
import os
import socket
import sys
import time

from . import calls_job, candidate, tester
from . import syscalls as sc
from .cell import Cell
from .codec import encode, send_frame

JOBS, TURNS = 3, 12
"""Whole jobs, and turns of what tester and candidate do; the interpreter specialises after 8."""
_CODE = "def solve(n, *more, **named): return [n]"
_TESTS = """
import pytest
from candidate import solve

@pytest.mark.security
def test_one():
    assert solve(1, b=None) == [1]
"""
_PLAN = json.dumps({"tests": ["test_one"], "source": _TESTS}).encode()
_LIMITS = {"timeout_s": 5, "memory_mb": 512, "output_bytes": 1024, "processes": 8}
_ASKED = (
    b"load", encode((1, "look", "solve", [], {})), encode((2, "call", "solve", [1], {"b": None})),
)  # fmt: skip
_REPLIES = (encode(("loaded",)), encode((1, "callable")), encode((2, "returned", [1], {})))


def rehearse(cell: Cell, line: socket.socket) -> None:
    """Run jobs and parts of jobs in this process, which has entered `cell`."""
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(TURNS):
        _be_candidate()
        _be_tester()
    for _ in range(JOBS):
        calls_job.run(cell, {"code": _CODE, "limits": _LIMITS}, [_tests_file()], line)
        os.chdir("/")
        if cell.has("namespaces"):
            sc.unmount(cell.home)
    for descriptor in set(os.listdir("/proc/self/fd")) - before:
        try:
            os.close(int(descriptor))
        except OSError:  # the one that listed the folder
            continue


def _be_candidate() -> None:
    tester_end, candidate_end = _conversation(_ASKED)
    candidate.main(candidate_end.detach(), _CODE)
    tester_end.close()


def _be_tester() -> None:
    candidate_end, tester_end = _conversation(_REPLIES)
    supervisor_end, control = socket.socketpair()
    until = time.monotonic() + 5
    tester.main(control.detach(), _tests_file(), tester_end.detach(), until, "/")
    for name in ("candidate", "tests", "pytest"):
        del sys.modules[name]
    for end in (candidate_end, supervisor_end):
        end.close()


def _conversation(said: tuple[bytes, ...]) -> tuple[socket.socket, socket.socket]:
    """Two ends of a line; what is said has been said at the first, and its speaker is silent."""
    speaker, listener = socket.socketpair()
    for frame in said:
        send_frame(speaker, frame)
    speaker.shutdown(socket.SHUT_WR)
    return speaker, listener


def _tests_file() -> int:
    descriptor = os.memfd_create("tests", os.MFD_CLOEXEC)
    os.write(descriptor, _PLAN)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
