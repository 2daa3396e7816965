"""How much a job has written, where its scratch folder has no file system of its own.

Cheap as long as nobody writes much: one look at the free space. Only when that has shrunk by a
job's share are the job's files added up, those too that have lost their names and are still open.
"""

import contextlib
import os
import stat

from . import ending
from .process import DISK_MB

SHARE = DISK_MB << 20
MAX_FILES = 16384
"""A folder with more files than this counts as too large; the private file system holds as many."""


class Gauge:
    """What the descendants of this process have written below `folder`."""

    def __init__(self, folder: str, proc_fd: int) -> None:
        self._folder, self._proc_fd = folder, proc_fd
        self._free = _free_bytes(folder)

    def is_over(self) -> bool:
        """Whether their files take more space than a job's share."""
        try:
            free = _free_bytes(self._folder)
        except FileNotFoundError:  # no layer kept the job from removing its own folder
            return False
        if self._free - free < SHARE:
            return False
        used = _tree_bytes(self._folder)
        for pid in ending.others(set(), self._proc_fd):
            used += _nameless_bytes(pid, self._proc_fd) if used <= SHARE else 0
        self._free = free + used
        return used > SHARE


def _free_bytes(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


def _tree_bytes(folder: str) -> int:
    """Disk space of a folder's files; more than the share if it is too deep or too full to tell."""
    used = files = 0
    try:
        for _, _, names, descriptor in os.fwalk(folder):
            files += len(names) + 1
            for name in names:
                with contextlib.suppress(OSError):
                    used += os.lstat(name, dir_fd=descriptor).st_blocks * 512
            if used > SHARE or files > MAX_FILES:
                return SHARE + 1
    except (OSError, RecursionError):
        return SHARE + 1
    return used


def _nameless_bytes(pid: int, proc_fd: int) -> int:
    """Disk space of the files that a process holds open though they have been removed."""
    used = 0
    with contextlib.suppress(OSError):
        folder = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc_fd)
        try:
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    found = os.stat(name, dir_fd=folder)
                    if found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
                        used += found.st_blocks * 512
        finally:
            os.close(folder)
    return used
