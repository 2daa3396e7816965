"""The walls around a job: namespaces, throw-away user, Landlock, system-call filter, limits.

A `Cell` is built once per starter (`enter`), furnished anew for every job (`furnish`), and every
process that runs foreign code passes through `spawn`. Which layers can be had is found by doing the
whole sequence in a throw-away child first; `layers` keeps name -> "" when on, else why it is off.
"""

import contextlib
import os
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import disk, ending, landlock, private_root, process, users
from . import syscalls as sc
from .cgroup import Jobs
from .process import Bounds, Child, arrange_descriptors, close_all_but, poll_end, set_limits
from .seccomp import ARCHITECTURES, Filter, SignalFilter

IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""What starter and supervisor do not listen to."""
FOLDERS = ("work", "home", "tmp", "shm")
"""What a job finds: its working folder, an empty home, room for temporary files."""
LAYERS = ("namespaces", "landlock", "seccomp", "uid", "cgroup")


@dataclass
class Cell:
    """Where foreign code runs; see the module."""

    read_only: tuple[str, ...]
    """Folders beside the system's own that jailed processes may read."""
    scratch_parent: str
    """Where `folder` is made."""
    without: tuple[str, ...] = ()
    """Layers not to use even where they can be had."""
    group: str = ""
    """Folder of the cgroup made for this starter; empty when none can be had."""
    hidden_tasks: int | None = None
    """In bubblewrap, the tasks of the same user that it hides; None outside."""
    neighbours: users.Neighbours | None = None
    """The tasks that count against the same limit of processes as a job's, if any do."""
    layers: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    """Holds the folders of jobs where no private root can be had."""
    uid: int | None = None
    proc_fd: int = -1
    home: str = "/box"
    filter: Filter | None = None
    _jobs: Jobs | None = None
    _landlock_version: int = 0
    _shown: tuple[landlock.Rule, ...] = ()
    """What Landlock lets every job see."""
    _ruleset: int = -1
    _lock: socket.socket | None = None
    _alive: list[Child] = field(default_factory=list)

    # -- once per starter ---------------------------------------------------------------------

    def enter(self) -> None:
        """Build the walls that last for all jobs of this starter."""
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.layers = {name: "switched off" for name in LAYERS if name in self.without}
        if "uid" not in self.layers:
            self.layers["uid"] = "" if os.getuid() == 0 else "not root: jobs run as this user"
        if self.layers["uid"] == "":
            self.uid, self._lock = users.reserve()
        why_no_group = self._try(self._join_group) if self.group else "no group was made"
        if "landlock" not in self.layers:
            self.layers["landlock"] = self._try(self._find_landlock)
        if "namespaces" not in self.layers:
            self.layers["namespaces"] = self._try_apart(self._enter_namespaces)
        if self.has("namespaces"):
            self._enter_namespaces()
        if self._jobs:
            why_no_group = self._try(self._jobs.probe)
        self.layers.setdefault("cgroup", why_no_group)
        if "seccomp" not in self.layers:
            self.layers["seccomp"] = self._try(self._compile_filter)
        if self.has("landlock"):
            self._shown = self._find_shown()
        if self.has("namespaces"):
            sc.empty_bounding_set()
        else:
            self.folder = tempfile.mkdtemp("", "seccoderx-lite-sandbox-", self.scratch_parent)
            os.chmod(self.folder, 0o711)
            if self.uid is None:
                self.neighbours = users.Neighbours(self.hidden_tasks)

    def leave(self) -> None:
        """Remove what `enter` made."""
        if self.folder:
            ending.remove_tree(self.folder)

    def has(self, layer: str) -> bool:
        """Whether a layer is on."""
        return self.layers.get(layer) == ""

    def _try(self, action: Callable[[], None]) -> str:
        try:
            action()
        except OSError as error:
            return str(error)
        return ""

    def _try_apart(self, action: Callable[[], None]) -> str:
        """Try in a throw-away child something that cannot be undone; returns why it failed."""
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                action()
                self.furnish()
                child = self.spawn(lambda: os._exit(0), Bounds(5, 256, 8), {0: 0, 1: 1, 2: 2})
                poll_end(child)
                self.end(child)
                answer = "" if child.ended == 0 else "a jailed process could not be started"
            except OSError as error:
                answer = str(error)
            os.write(write_end, answer.encode()[:4000] + b".")
            os._exit(0)
        os.close(write_end)
        _, _ = os.waitpid(pid, 0)
        with open(read_end, "rb") as file:
            answer = file.read().decode()
        return answer[:-1] if answer.endswith(".") else "the attempt ended without a word"

    def _join_group(self) -> None:
        self._jobs = Jobs(self.group, self.uid)

    def _find_landlock(self) -> None:
        os.close(landlock.build([], block_tcp=True))
        self._landlock_version = landlock.version()

    def _compile_filter(self) -> None:
        if sc.MACHINE not in ARCHITECTURES:
            raise OSError(f"no table of system calls for {sc.MACHINE}")
        is_apart = self.has("namespaces")
        is_walled = is_apart or self.hidden_tasks is not None
        compiled = Filter(
            local_sockets=is_apart, path_changes=is_walled or self.uid is not None, alone=is_apart,
            landlock_version=self._landlock_version,
        )  # fmt: skip
        if why := self._try_apart_install(compiled):
            raise OSError(why)
        self.filter = compiled

    def _try_apart_install(self, compiled: Filter) -> str:
        pid = os.fork()
        if pid == 0:
            try:
                compiled.install()
                os._exit(0)
            except OSError as error:
                os._exit(error.errno or 1)
        _, status = os.waitpid(pid, 0)
        return "" if status == 0 else os.strerror(os.waitstatus_to_exitcode(status))

    def _enter_namespaces(self) -> None:
        inner = (
            sc.CLONE_NEWUSER | sc.CLONE_NEWNS | sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS
        )
        uid, gid = os.getuid(), os.getgid()
        if self.uid is not None:
            # The interpreter may lie under a folder that only root enters: build the root first.
            sc.unshare(sc.CLONE_NEWNS)
            private_root.build(self.read_only)
            self._become_uid()
            uid = gid = self.uid
        sc.unshare(inner)
        private_root.map_user(uid, gid)
        if self.uid is None:
            private_root.build(self.read_only)
        with contextlib.suppress(OSError):
            socket.sethostname("sandbox")
        self.layers["namespaces"] = ""

    def _become_uid(self) -> None:
        if self.uid is not None:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
            sc.prctl(sc.PR_SET_DUMPABLE, 1)

    def reaches_interpreter(self) -> bool:
        """Whether the jailed user can read the standard library and start the interpreter."""
        pid = os.fork()
        if pid == 0:
            try:
                if not self.has("namespaces"):
                    self._become_uid()
                is_readable = os.access(os.__file__, os.R_OK) and os.access(sys.executable, os.X_OK)
                os._exit(0 if is_readable else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(pid, 0)
        return status == 0

    def give_up_uid(self, reason: str) -> None:
        """Run jobs as root after all; the tier then is limits-only."""
        self.uid, self.layers["uid"] = None, reason
        self.neighbours = users.Neighbours(self.hidden_tasks)

    # -- once per job -------------------------------------------------------------------------

    def furnish(self) -> None:
        """Give this job (in its supervisor process) an empty scratch folder and enter it."""
        if self.has("namespaces"):
            sc.unshare(sc.CLONE_NEWNS)
            options = f"size={process.DISK_MB}m,nr_inodes=16384,mode=0700"
            sc.mount("scratch", "/box", "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, options)
            self.home = "/box"
        else:
            self.home = os.path.join(self.folder, f"job-{os.getpid()}")
            os.mkdir(self.home, 0o700)
        for name in FOLDERS:
            os.mkdir(f"{self.home}/{name}", 0o700)
        if not self.has("namespaces") and self.uid is not None:
            for name in ("", *FOLDERS):
                os.chown(os.path.join(self.home, name), self.uid, self.uid)
        if self.has("landlock"):
            own = landlock.rule(self.home, landlock.EVERYTHING)
            rules = (*self._shown, own)
            self._ruleset = landlock.build(rules, block_tcp=not self.has("namespaces"))
            os.close(own.descriptor)
        for name, value in (("HOME", "home"), ("TMPDIR", "tmp"), ("PWD", "work")):
            os.environ[name] = f"{self.home}/{value}"
        os.chdir(self.work)

    def _find_shown(self) -> tuple[landlock.Rule, ...]:
        shown = ["/"] if self.has("namespaces") else [*private_root.shown(), *self.read_only]
        wanted = [(path, landlock.READ_ONLY) for path in shown]
        wanted += [(f"/dev/{name}", landlock.DEVICE) for name in private_root.DEVICES]
        return tuple(landlock.rule(*pair) for pair in wanted if os.path.exists(pair[0]))

    def hand_over(self, path: Path) -> None:
        """Let the jailed user own a file that the supervisor put into the scratch folder."""
        if self.uid is None or self.has("namespaces"):
            return
        os.chown(path, self.uid, self.uid)
        for folder in path.relative_to(self.work).parents:
            os.chown(Path(self.work, folder), self.uid, self.uid)

    def empty_work(self) -> None:
        """Give the coming command an empty scratch folder; nothing of the job may be running."""
        os.chdir("/")
        ending.remove_tree(self.work)
        os.mkdir(self.work, 0o700)
        if self.uid is not None and not self.has("namespaces"):
            os.chown(self.work, self.uid, self.uid)
        os.chdir(self.work)

    @property
    def work(self) -> str:
        """The scratch folder that candidate and tests share."""
        return f"{self.home}/work"

    def strip(self) -> None:
        """Remove the job's folder; a private one disappears with its namespace."""
        if not self.has("namespaces"):
            ending.sweep(self.uid, self.proc_fd)
            os.chdir("/")
            ending.remove_tree(self.home)

    # -- once per process ---------------------------------------------------------------------

    def spawn(
        self,
        body: Callable[[], None],
        bounds: Bounds,
        keep: dict[int, int],
        watched: bool = True,
        foreign: bool = True,
    ) -> Child:
        """Run `body` in a new jailed process; `keep` maps its descriptors to present ones.

        A `foreign` one, which will run the candidate, is counted in the job's cgroup.

        A process that is not watched is cheaper by a fork. In a namespace of its own it then is
        the first there and ignores signals it sends to itself; without namespaces its orphans come
        to the supervisor.
        """
        read_end, write_end = os.pipe()
        supervisor = os.getpid()
        apart = sc.CLONE_NEWPID | sc.CLONE_NEWNS | sc.CLONE_NEWIPC
        group = None
        if foreign and self._jobs and self.has("cgroup"):
            self._jobs.bound(bounds.memory_mb, bounds.processes + 1)
            group = self._jobs.fd
        pid = sc.clone(apart if self.has("namespaces") else 0, group)
        if pid:
            os.close(write_end)
            child = Child(pid, read_end)
            self._alive.append(child)
            return child
        try:
            if self.has("namespaces"):
                sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
                private_root.own_proc()
            else:
                sc.die_with_parent(supervisor)
            if watched:
                self._watch_over(body, bounds, keep, write_end)
            self._confine(bounds, {**keep, max(keep) + 1: write_end})
            body()
        finally:
            os._exit(70)

    def _watch_over(
        self, body: Callable[[], None], bounds: Bounds, keep: dict[int, int], status_fd: int
    ) -> None:
        """Be the first process of the family: start the body, reap, report its end."""
        watcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            sc.die_with_parent(watcher)
            try:
                self._confine(bounds, keep)
                body()
            finally:
                os._exit(71)
        close_all_but(status_fd)
        if not self.has("namespaces"):
            sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == pid:
                os.write(status_fd, struct.pack("i", status))
                if not self.has("namespaces"):
                    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
                    ending.sweep(self.uid, proc_fd)
                os._exit(0)

    def _confine(self, bounds: Bounds, keep: dict[int, int]) -> None:
        """Take every privilege from this process; the last step before foreign code."""
        os.setsid()
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.umask(0o022)
        if not self.has("namespaces"):
            self._become_uid()
            sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
        set_limits(bounds, self.neighbours.tasks if self.neighbours else users.OWN_TASKS)
        sc.drop_capabilities()
        if self.has("landlock"):
            landlock.restrict(self._ruleset)
        arrange_descriptors(keep)
        if self.filter:
            self.filter.install()
            if not self.has("namespaces") and self._landlock_version < landlock.CONFINES_SIGNALS:
                SignalFilter(os.getpid()).install()

    def end(self, *children: Child) -> None:
        """Kill whole families and wait until they are gone."""
        self._alive = [child for child in self._alive if child not in children]
        pids = [child.pid for child in children]
        if self.has("namespaces"):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            statuses = {pid: os.waitpid(pid, 0)[1] for pid in pids}
        else:
            statuses = ending.end_others(self._pids_but(), pids, self.proc_fd)
        for child in children:
            if child.ended is None:
                poll_end(child, statuses[child.pid])
            os.close(child.status_fd)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel ended the last foreign family because it held too much memory."""
        return self._jobs is not None and self.has("cgroup") and self._jobs.ran_out()

    def memory_kb(self, child: Child, limit_kb: int) -> int:
        """Memory of the family now, read exactly only where the quick sum is over `limit_kb`."""
        family = self._family_of(child)
        quick = ending.memory_kb(self.proc_fd, family)
        return quick if quick <= limit_kb else ending.share_kb(self.proc_fd, family)

    def disk_gauge(self) -> disk.Gauge | None:
        """What measures the present job's files; None where their file system has a bound."""
        return None if self.has("namespaces") else disk.Gauge(self.home, self.proc_fd)

    def _family_of(self, child: Child) -> list[int]:
        if self.has("namespaces"):
            return ending.family_of(child.pid, self.proc_fd)
        return ending.others(self._pids_but(child), self.proc_fd)  # with orphans that came here

    def _pids_but(self, *children: Child) -> set[int]:
        return {other.pid for other in self._alive if other not in children}
