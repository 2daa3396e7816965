"""Process families of a job: measure them, and kill all members, even ones that try to escape.

All functions read /proc through the descriptor `proc_fd`, which stays valid where it is hidden.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable

_PAGE_TABLES = "VmPTE:"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def children_of(pid: int, proc_fd: int) -> list[int]:
    """Children of all threads of a process; empty if it is gone."""
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
    """Anonymous memory and page tables of processes; shared pages count once per process."""
    # Reading from a huge empty mapping fills page tables and shows in no other figure.
    names = ("RssAnon:", "RssShmem:", _PAGE_TABLES)
    return sum(_sum_lines(f"{member}/status", proc_fd, names) for member in processes)


def share_kb(proc_fd: int, processes: list[int]) -> int:
    """Like `memory_kb`, but shared pages count once in total; exact and slower.

    A process that hides its shares (it is not dumpable) counts in full.
    """
    total = 0
    for member in processes:
        shares = _sum_lines(f"{member}/smaps_rollup", proc_fd, ("Pss_Anon:", "Pss_Shmem:"))
        names = (_PAGE_TABLES,) if shares else ("RssAnon:", "RssShmem:", _PAGE_TABLES)
        total += shares + _sum_lines(f"{member}/status", proc_fd, names)
    return total


class Waiting:
    """How long families waited for a core because of others, not of their own processes.

    Of the longest wait of a thread, the time for which all other threads of the families ran or
    waited is taken away: they compete with it. So a program gains no time by starting more of them.
    """

    def __init__(self) -> None:
        self._used: dict[int, float] = {}
        """Processor seconds of each process that was ever seen."""
        self._waited: dict[int, float] = {}
        """Seconds for which each thread that was ever seen waited for a core."""

    def look(self, proc_fd: int, families: Iterable[int]) -> float:
        """Seconds that these families waited because of others, so far."""
        waited = own = 0.0
        for family in families:
            longest, its_own = 0.0, 0.0
            for member in family_of(family, proc_fd):
                self._used[member] = max(self._used.get(member, 0.0), _used_s(member, proc_fd))
                for thread in _threads_of(member, proc_fd):
                    ran, wait = _schedule(f"{member}/task/{thread}", proc_fd)
                    self._waited[int(thread)] = wait
                    if wait > longest:
                        longest, its_own = wait, ran
            waited, own = waited + longest, own + its_own
        competed = sum(self._used.values()) - own - _TICK_S * len(self._used)
        competed = max(competed, 0.0) + sum(self._waited.values()) - waited
        return max(waited - competed, 0.0)


def _schedule(path: str, proc_fd: int) -> tuple[float, float]:
    """Seconds for which a thread ran, and for which it waited for a core."""
    try:
        with open(os.open(f"{path}/schedstat", os.O_RDONLY, dir_fd=proc_fd)) as file:
            ran, wait, _ = file.read().split()
        return int(ran) / 1e9, int(wait) / 1e9
    except (OSError, ValueError):
        return 0.0, 0.0


def _used_s(pid: int, proc_fd: int) -> float:
    """Processor seconds of a process, with all threads and the children it has waited for."""
    try:
        with open(os.open(f"{pid}/stat", os.O_RDONLY, dir_fd=proc_fd)) as file:
            parts = file.read().rpartition(")")[2].split()
        return sum(map(int, parts[11:15])) * _TICK_S
    except (OSError, ValueError):
        return 0.0


def _sum_lines(path: str, proc_fd: int, names: tuple[str, ...]) -> int:
    try:
        with open(os.open(path, os.O_RDONLY, dir_fd=proc_fd)) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(names))
    except (OSError, ValueError, IndexError):
        return 0


def count_tasks(uid: int) -> int:
    """The number of processes and threads of a user now."""
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
    """Kill and reap all descendants except `spared`; returns the wait statuses of `wanted`."""
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
    raise OSError("processes of a job could not be killed")


def others(spared: set[int], proc_fd: int) -> list[int]:
    """Descendants of this process, except the spared ones and their descendants."""
    found: list[int] = []
    for child in children_of(os.getpid(), proc_fd):
        if child not in spared:
            found += family_of(child, proc_fd)
    return found


def sweep(uid: int | None, proc_fd: int, rounds: int = 500) -> None:
    """Kill and reap all descendants of this process, which must be a subreaper."""
    for attempt in range(rounds):
        _kill_each(family_of(os.getpid(), proc_fd)[1:])
        if uid is not None and attempt % 20 == 5:
            _kill_all_of(uid)
        if _reap():
            return
        time.sleep(0.001)
    raise OSError("processes of a job could not be killed")


def _kill_each(family: list[int]) -> None:
    """Stop all first, so that none can fork while the others are being killed."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for member in family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(member, number)


def _reap() -> bool:
    """Reap ended children; True if no child is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False


def _kill_all_of(uid: int) -> None:
    """Kill every process of a throw-away user, from a helper process of that user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
