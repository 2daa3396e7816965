"""cgroup v2: the kernel bounds memory and processes of a whole job, exactly and at any time.

The trainer makes one group per worker (`make`, `remove`) if it may. The starter moves itself into
the subgroup `self`, and every process family that runs the candidate into the subgroup `jobs`
(`JobGroup`), whose limits are set for each family. A group holds one job at a time.
"""

import contextlib
import os
import time
from pathlib import Path

from . import syscalls as sc
from .process import DISK_MB

CONTROLLERS = ("memory", "pids")
PREFIX = "seccoderx-lite-"
_STALE_S = 60


def make(tag: str) -> str:
    """Make a group with the subgroups `self` and `jobs`; returns its folder.

    Raises:
        OSError: this process may not make groups; the message says what is missing.
    """
    mount, own = _own_folder()
    if missing := set(CONTROLLERS) - set(_words(mount / "cgroup.controllers")):
        raise OSError(f"cgroup v2 has no controller for {', '.join(sorted(missing))}")
    refusals = []
    for base in (own, *own.parents):
        try:
            return str(_make_in(base, tag))
        except OSError as error:
            refusals.append(f"{base}: {error.strerror or error}")
        if base == mount:
            break
    raise OSError(f"no group is delegated to this process ({refusals[0]})")


def _own_folder() -> tuple[Path, Path]:
    """The mount point of cgroup v2, and the folder of this process's group."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            root, mount = left.split()[3:5]
            break
    else:
        raise OSError("cgroup v2 is not mounted")
    own = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].splitlines()[0]
    if not Path(own).is_relative_to(root):
        raise OSError("this process's group is outside the mounted cgroup v2")
    return Path(mount), Path(mount, Path(own).relative_to(root))


def _make_in(base: Path, tag: str) -> Path:
    """Make the group below `base`, and enable the controllers for its subgroups."""
    if not set(CONTROLLERS) <= set(_words(base / "cgroup.subtree_control")):
        _enable(base)
    _remove_stale(base)
    folder = base / f"{PREFIX}{os.getpid()}-{tag}"
    folder.mkdir()
    try:
        _enable(folder)
        for name in ("self", "jobs"):
            (folder / name).mkdir()
    except OSError:
        remove(str(folder))
        raise
    return folder


def _enable(folder: Path) -> None:
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in CONTROLLERS))


def _words(file: Path) -> list[str]:
    return file.read_text().split()


def _remove_stale(base: Path) -> None:
    """Remove groups that trainers left when they were killed."""
    for folder in base.glob(f"{PREFIX}*-*"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(folder.name[len(PREFIX) :].partition("-")[0])
            if (
                time.time() - folder.stat().st_mtime > _STALE_S
                and not Path(f"/proc/{pid}").exists()
            ):
                remove(str(folder), seconds=0)


def remove(folder: str, seconds: float = 2.0) -> None:
    """Kill the processes in a group and remove it; gives up after `seconds`."""
    with contextlib.suppress(OSError):
        Path(folder, "cgroup.kill").write_text("1")
    end = time.monotonic() + seconds
    while True:
        for name in ("jobs", "self", "."):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.normpath(f"{folder}/{name}"))
        if not os.path.isdir(folder) or time.monotonic() > end:
            return
        time.sleep(0.01)


class JobGroup:
    """The subgroup `jobs`, as starter and supervisor use it."""

    def __init__(self, folder: str, uid: int | None) -> None:
        """Move this process into `self`; let user `uid` start processes in `jobs`."""
        # Files are opened here because the folder is hidden once namespaces are entered.
        Path(folder, "self", "cgroup.procs").write_text("0")
        if uid is not None:
            for name in ("cgroup.procs", "jobs/cgroup.procs"):
                os.chown(f"{folder}/{name}", uid, -1)
        Path(folder, "jobs", "memory.oom.group").write_text("1")
        with contextlib.suppress(OSError):
            Path(folder, "jobs", "memory.swap.max").write_text("0")
        self.fd = os.open(f"{folder}/jobs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._memory, self._pids = (self._open(name) for name in ("memory.max", "pids.max"))
        self._events = os.open("memory.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        self._kills = 0

    def _open(self, name: str) -> int:
        return os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd)

    def probe(self) -> None:
        """Start a process in the group, as jobs do; raises OSError if that is refused."""
        pid = sc.clone(0, self.fd)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    def bound(self, memory_mb: int, processes: int) -> None:
        """Set the limits of the family that is about to start."""
        # Files on a tmpfs count as memory here, but have a limit of their own.
        os.pwrite(self._memory, str((memory_mb + DISK_MB) << 20).encode(), 0)
        os.pwrite(self._pids, str(processes).encode(), 0)
        self._kills = self._count_kills()

    def ran_out(self) -> bool:
        """Whether the kernel has killed a process for its memory since `bound`."""
        return self._count_kills() > self._kills

    def _count_kills(self) -> int:
        events = dict(
            line.split() for line in os.pread(self._events, 4096, 0).decode().splitlines()
        )
        return int(events["oom_kill"])
