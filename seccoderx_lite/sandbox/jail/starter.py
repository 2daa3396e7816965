"""The starter: one clean, warm interpreter per worker that forks a supervisor for each job.

It never reads a request itself, so nothing of one job can be found in the memory of the next.
When the trainer closes the line, or is killed, the starter ends.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import sys

from . import calls_job, exec_job, rehearsal, supervisor
from . import syscalls as sc
from .cell import Cell
from .codec import send_frame

WARM_MODULES = (
    "abc", "array", "ast", "base64", "bisect", "collections", "contextlib", "copy",
    "csv", "ctypes", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools",
    "glob", "hashlib", "heapq", "hmac", "html", "inspect", "io", "ipaddress", "itertools", "json",
    "logging", "math", "operator", "os", "pathlib", "pickle", "queue", "random", "re", "secrets",
    "shlex", "shutil", "socket", "sqlite3", "stat", "statistics", "string", "struct",
    "subprocess", "tarfile", "tempfile", "textwrap", "threading", "time", "traceback", "typing",
    "unicodedata", "urllib.parse", "warnings", "weakref",
    "xml.etree.ElementTree", "zipfile", "zlib", "encodings.latin_1",
)  # fmt: skip
"""What candidates import often. Not asyncio and ssl, with what needs them: to copy these into every
job takes a twentieth of its time, more than the few pay that import them."""


def main(line_fd: int, settings: str) -> None:
    """Serve jobs on the inherited socket `line_fd` until it closes."""
    line = socket.socket(fileno=line_fd)
    config = json.loads(settings)
    sys.path[:] = [folder for folder in sys.path if folder]
    for name in WARM_MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    cell = Cell(
        tuple(config["read_only"]), config["scratch_parent"], tuple(config["without"]),
        config["group"], config["hidden_tasks"],
    )  # fmt: skip
    cell.enter()
    sc.prctl(sc.PR_SET_DUMPABLE, 1)
    if not cell.reaches_interpreter():
        if not config["is_last_choice"]:
            send_frame(line, json.dumps({"unreachable": sys.executable}).encode())
            cell.leave()
            os._exit(0)
        cell.give_up_uid(f"{sys.executable} lies where only root may read")
    rehearsal.rehearse(cell, line)
    gc.collect()
    gc.freeze()
    gc.disable()
    report = {"layers": cell.layers, "folder": cell.folder}
    send_frame(line, json.dumps(report).encode())
    _serve(line, cell)


def _serve(line: socket.socket, cell: Cell) -> None:
    poll = select.poll()
    poll.register(line, select.POLLIN)
    while True:
        poll.poll()
        if not line.recv(1, socket.MSG_PEEK):
            cell.leave()
            os._exit(0)
        if cell.neighbours:
            cell.neighbours.count()
        starter = os.getpid()
        pid = sc.clone(0)
        if pid == 0:
            _supervise(line, cell, starter)
        _, status = os.waitpid(pid, 0)
        if status:
            fault = {"fault": f"the supervisor ended with wait status {status}"}
            with contextlib.suppress(OSError):  # a trainer that has gone is noticed above
                send_frame(line, json.dumps(fault).encode())


def _supervise(line: socket.socket, cell: Cell, starter: int) -> None:
    """Be the supervisor of one job: read it, run it, answer, end."""
    try:
        try:
            sc.die_with_parent(starter)
            sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
            request, descriptors = supervisor.receive(line)
            run = calls_job.run if request["kind"] == "calls" else exec_job.run
            answer = run(cell, request, descriptors, line)
        except Exception as error:  # any failure of ours becomes the answer to this one job
            answer = {"fault": f"{type(error).__name__}: {error}"}
        send_frame(line, json.dumps(answer).encode())
        os._exit(0)
    finally:
        os._exit(1)
