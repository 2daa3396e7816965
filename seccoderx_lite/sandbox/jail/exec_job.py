"""Supervises an `exec` job: writes files into the working folder, then runs commands in turn.

Every command is a process family in a jail of its own; the commands of a job share its working
folder. Files to collect are read at the end, without following links.
"""

import base64
import fnmatch
import os
import select
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cell import Cell
from .process import Bounds, Child, poll_end
from .supervisor import Output, Stopped, Watch

COLLECT_BYTES = 48 << 20
COLLECT_FILES, COLLECT_DEPTH = 4096, 20


def run(
    cell: Cell, request: dict[str, Any], descriptors: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Run the steps until one fails, then collect files.

    A step that `is_case` starts with only the job's files and its own, and may fail without ending
    the job. All steps together may take `budget_s`, and each but the last half of what is left;
    steps after that count as timed out.
    """
    cell.make_home()
    results: list[dict[str, Any]] = []
    left = request.get("budget_s", float("inf"))
    try:
        _write_all(cell, request["files"])
        for number, step in enumerate(request["steps"]):
            if step["is_case"] and number:
                cell.reset_work()
                _write_all(cell, request["files"])
            _write_all(cell, step["files"])
            share = left if number + 1 == len(request["steps"]) else left / 2
            results.append(_run_step(cell, step, connection, share) if left > 0 else dict(_NOT_RUN))
            left -= results[-1]["seconds"] - results[-1]["starved_s"]
            ok = results[-1]["end"] == "done" and results[-1]["wait_status"] == 0
            if not ok and not step["is_case"]:
                break
        if cell.neighbours:
            allowed = min(step["limits"]["processes"] for step in request["steps"])
            cell.neighbours.check_room(allowed)
        collected = _collect_all(cell, request["collect"])
    finally:
        cell.remove_home()
    return {"steps": results, "collected": collected}


_NOT_RUN = {
    "end": "timeout",
    "wait_status": None,
    "seconds": 0.0,
    "starved_s": 0.0,
    "stdout": "",
    "stderr": "",
}


def _write_all(cell: Cell, files: dict[str, str]) -> None:
    for name, content in files.items():
        _write(cell, name, base64.b64decode(content))


def _write(cell: Cell, name: str, content: bytes) -> None:
    target = Path(cell.work, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644)
    cell.give_to_jailed_user(target)


def _run_step(
    cell: Cell, step: dict[str, Any], connection: socket.socket, left: float
) -> dict[str, Any]:
    """Run one command in a jail of its own, for at most `left` seconds."""
    limits = step["limits"]
    data_only = bool(step["data_only"])
    bounds = Bounds(
        min(limits["timeout_s"], left), limits["memory_mb"], limits["processes"], data_only
    )
    stdout, stderr = Output(limits["output_bytes"]), Output(limits["output_bytes"])
    stdin = _stdin_file(base64.b64decode(step["stdin"]))
    watch = Watch(cell, bounds.seconds, bounds.memory_mb)
    command, environment = step["command"], step["env"]
    keep = {0: stdin, 1: stdout.write_fd, 2: stderr.write_fd}
    child = cell.spawn(lambda: _exec(command, environment), bounds, keep)
    for descriptor in (stdin, stdout.write_fd, stderr.write_fd):
        os.close(descriptor)
    try:
        _wait_for_end(child, [stdout, stderr], watch, connection)
        end = "done"
    except Stopped as stopped:
        end = stopped.reason
    seconds = time.monotonic() - watch.started
    starved_s = min(watch.starved_s(child), seconds)
    cell.end(child)
    if not all([stdout.drain(), stderr.drain()]) and end == "done":
        end = "output_limit"
    if cell.ran_out_of_memory():
        end = "memory"
    for output in (stdout, stderr):
        os.close(output.read_fd)
    return {
        "end": end,
        "wait_status": child.ended,
        "seconds": seconds,
        "starved_s": starved_s,
        "stdout": base64.b64encode(stdout.data).decode(),
        "stderr": base64.b64encode(stderr.data).decode(),
    }


def _stdin_file(data: bytes) -> int:
    """A descriptor of a file with this content."""
    if not data:
        return os.open("/dev/null", os.O_RDONLY)
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with open(os.dup(descriptor), "wb") as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _exec(command: list[str], environment: dict[str, str]) -> None:
    """Replace this jailed process with the command."""
    full = {**os.environ, **environment}
    program = shutil.which(command[0], path=full.get("PATH"))
    try:
        if program is None:
            raise FileNotFoundError(2, "command not found", command[0])
        os.execve(program, command, full)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


def _wait_for_end(
    child: Child, outputs: list[Output], watch: Watch, connection: socket.socket
) -> None:
    """Wait for the end of the command's own process; raise Stopped at a limit."""
    poll = select.poll()
    by_descriptor = {output.read_fd: output for output in outputs}
    for descriptor in (child.status_fd, connection.fileno(), *by_descriptor):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(watch.wait_ms())}
        for descriptor in ready & by_descriptor.keys():
            if not by_descriptor[descriptor].drain():
                raise Stopped("output_limit")
            if by_descriptor[descriptor].is_closed:
                poll.unregister(descriptor)
        if connection.fileno() in ready:
            raise Stopped("trainer gone")
        if child.status_fd in ready:
            poll_end(child)
            return
        watch.check(child)


def _collect_all(cell: Cell, patterns: list[str]) -> dict[str, str]:
    """Files below the working folder that match, in base64 by name; `COLLECT_BYTES` at most."""
    found: dict[str, str] = {}
    left = COLLECT_BYTES
    for name, folder in _files(cell.work) if patterns else ():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            content = _collect(folder, os.path.basename(name), left)
            if content is not None:
                found[name] = base64.b64encode(content).decode()
                left -= len(content)
    return found


def _files(work: str) -> Iterator[tuple[str, int]]:
    """Files below a folder and a descriptor of the folder of each; links are not followed."""
    count = 0
    for folder, folders, names, descriptor in os.fwalk(work):
        inner = os.path.relpath(folder, work)
        if inner.count("/") >= COLLECT_DEPTH:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > COLLECT_FILES:
                return
            yield os.path.normpath(os.path.join(inner, name)), descriptor


def _collect(folder: int, name: str, limit: int) -> bytes | None:
    """The content of a regular file; None for links and devices, and beyond `limit` bytes."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        entry = os.fstat(descriptor)
        is_wanted = stat.S_ISREG(entry.st_mode) and entry.st_size <= limit
        return file.read(limit) if is_wanted else None
