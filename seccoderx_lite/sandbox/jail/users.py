"""Users of the machine: a throw-away one for a sandbox, and what others of the same user run."""

import os
import socket
from pathlib import Path

from .ending import count_tasks

FIRST_UID, UIDS = 64001, 400
OWN_TASKS = 6
"""Starter, supervisor, tester and watchers, which count against the same user as the candidate."""
_SLACK = 4
"""Tasks that may come or go on the machine before those of the user are counted again."""

NO_ROOM = "other processes of this user left too little room for those of the job"


def reserve() -> tuple[int, socket.socket]:
    """A user id that no other sandbox on this machine is using, for as long as the socket lives."""
    for number in range(FIRST_UID + os.getpid() % UIDS, FIRST_UID + 2 * UIDS):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0seccoderx-lite-uid-{number}")
        except OSError:
            lock.close()
            continue
        return number, lock
    raise OSError("no free user id for the sandbox")


class Neighbours:
    """The other tasks of a user, where the kernel counts them and a job's against one limit."""

    def __init__(self, hidden: int | None) -> None:
        """Count; `hidden` tasks cannot be seen from here, which matters in the first namespace."""
        self._hidden = (hidden or 0) if _is_in_first_namespace() else 0
        self._all = -_SLACK - 1
        self.tasks = 0
        """Those of the user when last counted, and this job's own processes."""
        self.count()

    def count(self) -> None:
        """Count, if the machine no longer has about as many tasks as at the last count."""
        if abs(_tasks_of_all() - self._all) > _SLACK:
            self._all, self.tasks = _tasks_of_all(), self._tasks_now()

    def check_room(self, processes: int) -> None:
        """Raise OSError if others have taken much of the room for `processes` since the count.

        A fork bomb elsewhere must not become the failure of a job; asked when the job has ended.
        """
        if _tasks_of_all() <= self._all + _SLACK:
            return
        if self._tasks_now() > self.tasks + processes // 2:
            raise OSError(NO_ROOM)

    def _tasks_now(self) -> int:
        return OWN_TASKS + count_tasks(os.getuid()) + self._hidden


def _tasks_of_all() -> int:
    """Processes and threads of the whole machine now."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])


def _is_in_first_namespace() -> bool:
    """Whether this process's limits count all processes of its user on the machine."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
