"""How much a job has written, if its home is not a file system of its own.

Cheap while little is written: one look at the free space. Only if that has shrunk by `SHARE` are
the job's files added up, including open ones that were deleted.
"""

import contextlib
import os
import stat

from . import process_tree
from .process import DISK_MB

SHARE = DISK_MB << 20
MAX_FILES = 16384
"""More files than this count as too large; a job's own tmpfs has the same limit."""


class Gauge:
    """Measures the files below `folder` and those that descendants of this process hold open."""

    def __init__(self, folder: str, proc_fd: int) -> None:
        self._folder, self._proc_fd = folder, proc_fd
        self._free = _free_bytes(folder)

    def is_over(self) -> bool:
        """Whether these files take more than `SHARE`."""
        try:
            free = _free_bytes(self._folder)
        except FileNotFoundError:  # a job in a weak tier can remove its own home
            return False
        if self._free - free < SHARE:
            return False
        used = _tree_bytes(self._folder)
        for pid in process_tree.others(set(), self._proc_fd):
            used += _deleted_bytes(pid, self._proc_fd) if used <= SHARE else 0
        self._free = free + used
        return used > SHARE


def _free_bytes(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


def _tree_bytes(folder: str) -> int:
    """Bytes of a folder's files; more than `SHARE` if it is too deep or too full to measure."""
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


def _deleted_bytes(pid: int, proc_fd: int) -> int:
    """Bytes of deleted files that a process holds open."""
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
