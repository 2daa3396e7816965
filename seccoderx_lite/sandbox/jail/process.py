"""One jailed process family: its limits, its descriptors, its end."""

import os
import resource
import signal
import struct
from dataclasses import dataclass

DISK_MB = 64
OPEN_FILES = 256


@dataclass(frozen=True)
class Bounds:
    """Limits of one jailed process family."""

    seconds: float
    memory_mb: int
    processes: int
    data_only: bool = False
    """Bound the data segment, not the address space (Node, Java and Go reserve gigabytes)."""


@dataclass
class Child:
    """A jailed process family: the pid to kill and the pipe that reports its end."""

    pid: int
    status_fd: int
    ended: int | None = None
    """Wait status of the process that ran the body; None while it runs."""


def close_all_but(kept: int) -> None:
    os.closerange(0, kept)
    os.closerange(kept + 1, 1 << 20)


def arrange_descriptors(keep: dict[int, int]) -> None:
    """Make `keep` (new number -> open descriptor) the only open descriptors."""
    top = max(keep) + 1
    high = {new: os.dup2(old, OPEN_FILES - 20 + new) for new, old in keep.items()}
    for new, old in high.items():
        os.dup2(old, new)
    os.closerange(top, 1 << 20)


def set_limits(bounds: Bounds, others: int) -> None:
    """Set the limits; `others` tasks of the same user use up part of the limit of processes."""
    table = {
        resource.RLIMIT_DATA if bounds.data_only else resource.RLIMIT_AS: bounds.memory_mb << 20,
        resource.RLIMIT_CPU: int(bounds.seconds) + 2,
        resource.RLIMIT_FSIZE: DISK_MB << 20,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: bounds.processes + others,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in table.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


def poll_end(child: Child, status: int = signal.SIGKILL) -> None:
    """Read the watcher's report; if there is none, `status` is how the family ended."""
    data = os.read(child.status_fd, 4)
    child.ended = struct.unpack("i", data)[0] if len(data) == 4 else int(status)
