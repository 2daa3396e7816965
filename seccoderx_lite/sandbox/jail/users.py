"""A throw-away user for a sandbox, and the tasks that share a user's limit of processes."""

import os
import socket
from pathlib import Path

from .process_tree import count_tasks

FIRST_UID, UIDS = 64001, 400
OWN_TASKS = 6
"""Starter, supervisor, tester and watchers, which count against the candidate's user."""
_SLACK = 4
"""Tasks that may start or end on the machine before the user's tasks are counted again."""

NO_ROOM = "other processes of this user use up its limit of processes"


def reserve() -> tuple[int, socket.socket]:
    """A user id that no other sandbox uses while the returned socket is open."""
    for number in range(FIRST_UID + os.getpid() % UIDS, FIRST_UID + 2 * UIDS):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0seccoderx-lite-uid-{number}")
        except OSError:
            lock.close()
            continue
        return number, lock
    raise OSError(f"no free user id for the sandbox in {FIRST_UID} to {FIRST_UID + 2 * UIDS}")


class Neighbours:
    """Other tasks of the job's user: RLIMIT_NPROC is a limit per user, not per job."""

    def __init__(self, hidden: int | None) -> None:
        """Count them; `hidden` tasks cannot be seen, but count in the first user namespace."""
        self._hidden = (hidden or 0) if _is_in_first_namespace() else 0
        self._all = -_SLACK - 1
        self.tasks = 0
        """The user's tasks when last counted, plus the sandbox's own."""
        self.count()

    def count(self) -> None:
        """Count again if the number of tasks on the machine has changed."""
        if abs(_tasks_of_all() - self._all) > _SLACK:
            self._all, self.tasks = _tasks_of_all(), self._tasks_now()

    def check_room(self, processes: int) -> None:
        """Raise OSError if others have used much of the room for `processes` since the count.

        Called when a job has ended: a fork bomb elsewhere must not count as its failure.
        """
        if _tasks_of_all() <= self._all + _SLACK:
            return
        if self._tasks_now() > self.tasks + processes // 2:
            raise OSError(NO_ROOM)

    def _tasks_now(self) -> int:
        return OWN_TASKS + count_tasks(os.getuid()) + self._hidden


def _tasks_of_all() -> int:
    """The number of processes and threads of the whole machine now."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])


def _is_in_first_namespace() -> bool:
    """Whether this process's limits count all processes of its user on the machine."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
