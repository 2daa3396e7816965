"""The starter: a clean, warm interpreter per worker, which forks a supervisor for each job.

It never reads a job itself, so its memory holds nothing of one job that the next could find. When
the trainer closes the connection or is killed, the starter ends.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import sys

from . import calls_job, exec_job, supervisor, warm_up
from . import syscalls as sc
from .cell import Cell
from .codec import send_frame

WARM_MODULES = """
    abc array ast base64 bisect collections contextlib copy csv ctypes dataclasses datetime decimal
    enum fractions functools glob hashlib heapq hmac html inspect io ipaddress itertools json
    logging math operator os pathlib pickle queue random re secrets shlex shutil socket sqlite3 stat
    statistics string struct subprocess tarfile tempfile textwrap threading time traceback typing
    unicodedata urllib.parse warnings weakref xml.etree.ElementTree zipfile zlib encodings.latin_1
"""
"""Modules that candidates often import. Not asyncio and ssl: each fork would take 5% longer because
of their pages, and few candidates import them."""


def main(connection_fd: int, settings: str) -> None:
    """Serve jobs on the inherited socket `connection_fd` until it closes."""
    connection = socket.socket(fileno=connection_fd)
    config = json.loads(settings)
    sys.path[:] = [folder for folder in sys.path if folder]
    for name in WARM_MODULES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _warm_packages(config["modules"], config["packages"])
    cell = Cell(
        read_only=tuple(config["read_only"]),
        scratch_parent=config["scratch_parent"],
        packages=tuple(config["packages"]),
        without=tuple(config["without"]),
        group=config["group"],
        hidden_tasks=config["hidden_tasks"],
    )
    cell.enter()
    sc.prctl(sc.PR_SET_DUMPABLE, 1)
    if not cell.reaches_interpreter():
        if not config["is_last_choice"]:
            send_frame(connection, json.dumps({"unreachable": sys.executable}).encode())
            cell.leave()
            os._exit(0)
        cell.give_up_uid(f"only root can read {sys.executable}")
    if cell.packages:
        sys.path.append(cell.package_folder)
        os.environ["PYTHONPATH"] = cell.package_folder
    warm_up.warm_up(cell, connection)
    # Forks would copy every page that a collection touches.
    gc.collect()
    gc.freeze()
    gc.disable()
    report = {"layers": cell.layers, "folder": cell.folder}
    send_frame(connection, json.dumps(report).encode())
    _serve(connection, cell)


def _warm_packages(modules: list[str], entries: list[str]) -> None:
    """Import the offered packages once for all jobs; one that fails is noticed in the jail."""
    before = list(sys.path)
    sys.path += dict.fromkeys(os.path.dirname(entry) for entry in entries)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    sys.path[:] = before


def _serve(connection: socket.socket, cell: Cell) -> None:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        poll.poll()
        if not connection.recv(1, socket.MSG_PEEK):
            cell.leave()
            os._exit(0)
        if cell.neighbours:
            cell.neighbours.count()
        starter = os.getpid()
        pid = sc.clone(0)
        if pid == 0:
            _supervise(connection, cell, starter)
        _, status = os.waitpid(pid, 0)
        if status:
            fault = {"fault": f"the supervisor ended with wait status {status}"}
            with contextlib.suppress(OSError):  # a trainer that is gone is noticed by recv above
                send_frame(connection, json.dumps(fault).encode())


def _supervise(connection: socket.socket, cell: Cell, starter: int) -> None:
    """Supervise one job in this process: read it, run it, answer, exit."""
    try:
        try:
            sc.die_with_parent(starter)
            sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
            request, descriptors = supervisor.receive(connection)
            run = calls_job.run if request["kind"] == "calls" else exec_job.run
            answer = run(cell, request, descriptors, connection)
        except Exception as error:  # a failure of the sandbox is the answer to this job alone
            answer = {"fault": f"{type(error).__name__}: {error}"}
        send_frame(connection, json.dumps(answer).encode())
        os._exit(0)
    finally:
        os._exit(1)
