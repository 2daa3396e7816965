"""Attacks the trainer from inside a jail, and prints the attacks that succeeded as JSON.

Runs as a program of its own, and reads its targets as JSON from standard input.
"""

import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

FORKS = 64
ENVIRONMENT = {"PATH", "LANG", "HOME", "TMPDIR", "USER", "PWD", "LC_CTYPE"}
ENVIRONMENT |= {"PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
"""Variables that the sandbox sets itself, or that Python does; any other came from the trainer."""


def main() -> None:
    """Try every attack; print `{"broken": {promise: [attack, ...]}, "forks": count}`."""
    targets = json.loads(sys.stdin.read())
    broken: dict[str, list[str]] = {}
    for promise, name, attempt in _attempts(targets):
        try:
            attempt()
        except (OSError, MemoryError):
            continue
        broken.setdefault(promise, []).append(name)
    _leave_survivor(targets["token"])
    print(json.dumps({"broken": broken, "forks": _count_forks()}))


def _attempts(targets: dict[str, Any]) -> Iterator[tuple[str, str, Callable[[], object]]]:
    pid, path = targets["pid"], targets["file"]
    yield "secrets", "read the environment of the trainer", lambda: _read(f"/proc/{pid}/environ")
    yield "secrets", "read the memory of the trainer", lambda: _read(f"/proc/{pid}/mem")
    yield "secrets", "found variables of the trainer in its own environment", _own_environment
    yield "files", "read a file outside the sandbox", lambda: _read(path)
    yield "files", "wrote a file outside the sandbox", lambda: _append(path)
    yield "files", "listed a folder outside the sandbox", lambda: os.listdir(os.path.dirname(path))
    yield "files", "changed the mode of a file outside the sandbox", lambda: os.chmod(path, 0o777)
    yield "files", "emptied a file outside the sandbox", lambda: os.truncate(path, 0)
    yield (
        "files",
        "emptied a file outside the sandbox by opening it",
        lambda: os.open(path, os.O_TRUNC),
    )
    yield "network", "connected over TCP", lambda: _connect("tcp", targets)
    yield "network", "sent over UDP", lambda: _connect("udp", targets)
    yield "network", "connected to a Unix socket", lambda: _connect("unix", targets)
    yield "network", "connected to an abstract socket", lambda: _connect("abstract", targets)
    yield "signals", "sent a signal to the trainer", lambda: os.kill(pid, 0)
    yield "signals", "changed resource limits of the trainer", lambda: _change_limits(pid)
    yield "signals", "chose the cores that the trainer runs on", lambda: _change_cores(pid)
    yield (
        "memory",
        "allocated more memory than its limit",
        lambda: bytearray(targets["memory_mb"] << 20),
    )


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def _append(path: str) -> None:
    with open(path, "ab"):
        pass


def _change_limits(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_CORE, resource.prlimit(pid, resource.RLIMIT_CORE))


def _change_cores(pid: int) -> None:
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))


def _own_environment() -> None:
    if not set(os.environ) - ENVIRONMENT:
        raise OSError("clean")


def _connect(kind: str, targets: dict[str, Any]) -> None:
    """Reach a socket that the trainer listens on."""
    family = socket.AF_INET if kind in ("tcp", "udp") else socket.AF_UNIX
    style = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(family, style) as caller:
        caller.settimeout(0.5)
        if family == socket.AF_INET:
            caller.connect(("127.0.0.1", targets[kind]))
        else:
            caller.connect(targets[kind])
        caller.send(b"attack")


def _leave_survivor(token: str) -> None:
    """Leave a process running that has left its parent, its session and its output."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 64)
                os.execv("/bin/sleep", [f"sleep-{token}", "61"])
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _count_forks() -> int:
    """The number of child processes that can exist at the same time."""
    read_end, write_end = os.pipe()
    count = 0
    try:
        for _ in range(FORKS):
            if os.fork() == 0:
                os.close(write_end)
                os.read(read_end, 1)
                os._exit(0)
            count += 1
    except OSError:
        return count
    return count


if __name__ == "__main__":
    main()
