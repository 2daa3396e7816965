"""Ending a job: measure, kill and remove everything, also what tries to get away."""

import contextlib
import itertools
import os
import signal
import stat
import time
from collections.abc import Iterator

_PAGE_TABLES = "VmPTE:"


def children_of(pid: int, proc_fd: int) -> list[int]:
    """Children of all threads of a process, from /proc; empty when it is gone."""
    found: list[int] = []
    for thread in _threads_of(pid, proc_fd):
        with contextlib.suppress(OSError):
            path = f"{pid}/task/{thread}/children"
            with open(os.open(path, os.O_RDONLY, dir_fd=proc_fd)) as file:
                found += map(int, file.read().split())
    return found


def _threads_of(pid: int, proc_fd: int) -> list[str]:
    if pid == os.getpid():  # has one thread
        return [str(pid)]
    try:
        folder = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc_fd)
    except OSError:
        return []
    try:
        return os.listdir(folder)
    except OSError:
        return []
    finally:
        os.close(folder)


def family_of(pid: int, proc_fd: int) -> list[int]:
    """The process and its descendants."""
    found: list[int] = []
    queue = [pid]
    while queue and len(found) < 4096:
        member = queue.pop()
        found.append(member)
        queue += children_of(member, proc_fd)
    return found


def memory_kb(proc_fd: int, processes: list[int]) -> int:
    """Private and shared anonymous memory of processes, counted fully for each.

    With their page tables, which reading from a huge empty mapping fills, and nothing else shows.
    """
    names = ("RssAnon:", "RssShmem:", _PAGE_TABLES)
    return sum(_sum_lines(f"{member}/status", proc_fd, names) for member in processes)


def share_kb(proc_fd: int, processes: list[int]) -> int:
    """The same with pages that processes share counted once; exact and slower.

    A process that hides what it shares is counted fully.
    """
    total = 0
    for member in processes:
        shares = _sum_lines(f"{member}/smaps_rollup", proc_fd, ("Pss_Anon:", "Pss_Shmem:"))
        names = (_PAGE_TABLES,) if shares else ("RssAnon:", "RssShmem:", _PAGE_TABLES)
        total += shares + _sum_lines(f"{member}/status", proc_fd, names)
    return total


def starved_s(proc_fd: int, pid: int) -> float:
    """How long the most starved member of a family has waited for a core while it could run."""
    longest = 0
    for member in family_of(pid, proc_fd):
        try:
            with open(os.open(f"{member}/schedstat", os.O_RDONLY, dir_fd=proc_fd)) as file:
                longest = max(longest, int(file.read().split()[1]))
        except (OSError, ValueError, IndexError):
            continue
    return longest / 1e9


def _sum_lines(path: str, proc_fd: int, names: tuple[str, ...]) -> int:
    try:
        with open(os.open(path, os.O_RDONLY, dir_fd=proc_fd)) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(names))
    except (OSError, ValueError, IndexError):
        return 0


def count_tasks(uid: int) -> int:
    """Processes and threads of a user now."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    total += len(os.listdir(f"/proc/{entry.name}/task"))
    return total


def end_others(
    spared: set[int], wanted: list[int], proc_fd: int, rounds: int = 2000
) -> dict[int, int]:
    """Kill and reap all descendants of this process but the spared; `wanted`'s wait statuses."""
    statuses = dict.fromkeys(wanted, int(signal.SIGKILL))
    for attempt in range(rounds):
        family = others(spared, proc_fd)
        if not family:
            return statuses
        if attempt:
            time.sleep(0.0005)
        _kill_each(family)
        for member in family:
            with contextlib.suppress(ChildProcessError):
                pid, ended = os.waitpid(member, 0 if member in statuses else os.WNOHANG)
                if pid in statuses:
                    statuses[pid] = ended
    raise OSError("processes of a job could not be ended")


def others(spared: set[int], proc_fd: int) -> list[int]:
    """Descendants of this process that are not spared ones or below them."""
    found: list[int] = []
    for child in children_of(os.getpid(), proc_fd):
        if child not in spared:
            found += family_of(child, proc_fd)
    return found


def sweep(uid: int | None, proc_fd: int, rounds: int = 500) -> None:
    """Kill and reap every descendant of this process (a subreaper) until none is left."""
    for attempt in range(rounds):
        _kill_each(family_of(os.getpid(), proc_fd)[1:])
        if uid is not None and attempt % 20 == 5:
            _kill_all_of(uid)
        if _reap():
            return
        time.sleep(0.001)
    raise OSError("processes of a job could not be ended")


def _kill_each(family: list[int]) -> None:
    """Stop all first, so that none can fork away while the others are being killed."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for member in family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(member, number)


def _reap() -> bool:
    """Reap what has ended; True when no child is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False


def _kill_all_of(uid: int) -> None:
    """Signal every process of a throw-away user from a helper that has become that user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)


def remove_tree(path: str) -> None:
    """Remove a folder by descriptors, never following a link, however deep or locked it is."""
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        _remove_entry(parent, os.path.basename(path))
    finally:
        os.close(parent)


def _remove_entry(parent: int, name: str) -> None:
    """Remove one entry; folders are flattened step by step so that depth does not matter."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
    except FileNotFoundError:
        return
    prefix = f"lifted-{os.urandom(8).hex()}"
    lifted = itertools.count()
    folder = _open_folder(parent, name)
    try:
        while entries := os.listdir(folder):
            for entry in entries:
                _clear_one(folder, entry, prefix, lifted)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def _clear_one(folder: int, entry: str, prefix: str, lifted: Iterator[int]) -> None:
    """Remove a file, or lift a folder's sub-folders into `folder` and remove it."""
    if not stat.S_ISDIR(os.lstat(entry, dir_fd=folder).st_mode):
        os.unlink(entry, dir_fd=folder)
        return
    with contextlib.suppress(OSError):
        os.rmdir(entry, dir_fd=folder)  # most are empty
        return
    inner = _open_folder(folder, entry)
    try:
        for item in os.listdir(inner):
            if stat.S_ISDIR(os.lstat(item, dir_fd=inner).st_mode):
                os.chmod(item, 0o700, dir_fd=inner)
                name = f"{prefix}-{next(lifted)}"
                os.rename(item, name, src_dir_fd=inner, dst_dir_fd=folder)
            else:
                os.unlink(item, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(entry, dir_fd=folder)


def _open_folder(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, flags, dir_fd=parent)
