"""Isolates a job: namespaces, throw-away user, Landlock, system-call filter, limits.

A `Cell` is set up once per starter (`enter`), gets a new home for every job (`make_home`), and
starts every process that runs the code under test (`spawn`). Layers are first tested in a
throw-away child; `layers` says which are on: name -> "", or why it is off.
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

from . import disk, landlock, private_root, process, process_tree, users
from . import syscalls as sc
from .attempt import attempt
from .cgroup import JobGroup
from .process import Bounds, Child, arrange_descriptors, close_all_but, poll_end, set_limits
from .remove_tree import remove_tree
from .seccomp import ARCHITECTURES, Filter, SignalFilter

IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Ignored by starter and supervisor: the trainer ends them by closing its connection."""
FOLDERS = ("work", "home", "tmp", "shm")
"""Folders of a job's home."""
LAYERS = ("namespaces", "landlock", "seccomp", "uid", "cgroup")


@dataclass
class Cell:
    """The isolation of one starter's jobs."""

    read_only: tuple[str, ...]
    """Folders, besides the system's own, that jailed processes may read."""
    scratch_parent: str
    """The folder that `folder` is created in."""
    packages: tuple[str, ...] = ()
    """Files and folders that Python code may import besides the standard library."""
    without: tuple[str, ...] = ()
    """Layers to switch off."""
    group: str = ""
    """Folder of this starter's cgroup; empty if there is none."""
    hidden_tasks: int | None = None
    """Inside bubblewrap: the number of tasks of the same user that it hides; else None."""
    neighbours: users.Neighbours | None = None
    """Other tasks that count against a job's limit of processes; None if none can."""
    layers: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    """The parent of the jobs' homes; empty with namespaces, where each has a tmpfs."""
    uid: int | None = None
    proc_fd: int = -1
    home: str = "/box"
    filter: Filter | None = None
    _jobs: JobGroup | None = None
    _landlock_version: int = 0
    _readable: tuple[landlock.Rule, ...] = ()
    """What Landlock lets every job read."""
    _ruleset: int = -1
    _lock: socket.socket | None = None
    """Keeps `uid` reserved while it is open."""
    _alive: list[Child] = field(default_factory=list)

    # Once per starter

    def enter(self) -> None:
        """Set up the layers that last for all jobs of this starter."""
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
        why_no_group = _reason(self._join_group) if self.group else "the trainer made no group"
        if "landlock" not in self.layers:
            self.layers["landlock"] = _reason(self._find_landlock)
        if "namespaces" not in self.layers:
            self.layers["namespaces"] = attempt(self._try_namespaces)
        if self.has("namespaces"):
            self._enter_namespaces()
        if self._jobs:
            why_no_group = _reason(self._jobs.probe)
        self.layers.setdefault("cgroup", why_no_group)
        if "seccomp" not in self.layers:
            self.layers["seccomp"] = _reason(self._compile_filter)
        if self.has("landlock"):
            self._readable = self._find_readable()
        if self.has("namespaces"):
            sc.empty_bounding_set()
        else:
            self.folder = tempfile.mkdtemp("", "seccoderx-lite-sandbox-", self.scratch_parent)
            os.chmod(self.folder, 0o711)
            private_root.link_packages(self.package_folder, self.packages)
            if self.uid is None:
                self.neighbours = users.Neighbours(self.hidden_tasks)

    @property
    def package_folder(self) -> str:
        """The folder of links to `packages`, for Python's search path."""
        return f"{self.folder}{private_root.PACKAGES}"

    def leave(self) -> None:
        """Remove what `enter` created on disk."""
        if self.folder:
            remove_tree(self.folder)

    def has(self, layer: str) -> bool:
        return self.layers.get(layer) == ""

    def _try_namespaces(self) -> None:
        """Enter namespaces and run a jailed process; raises OSError if one of the steps fails."""
        self._enter_namespaces()
        self.make_home()
        child = self.spawn(lambda: os._exit(0), Bounds(5, 256, 8), {0: 0, 1: 1, 2: 2})
        poll_end(child)
        self.end(child)
        if child.ended != 0:
            raise OSError("a jailed process could not be started")

    def _join_group(self) -> None:
        self._jobs = JobGroup(self.group, self.uid)

    def _find_landlock(self) -> None:
        os.close(landlock.build([], block_tcp=True))
        self._landlock_version = landlock.version()

    def _compile_filter(self) -> None:
        if sc.MACHINE not in ARCHITECTURES:
            raise OSError(f"system calls of {sc.MACHINE} are not known here")
        has_namespaces = self.has("namespaces")
        has_own_root = has_namespaces or self.hidden_tasks is not None
        compiled = Filter(
            local_sockets=has_namespaces,
            path_changes=has_own_root or self.uid is not None,
            alone=has_namespaces,
            landlock_version=self._landlock_version,
        )
        if why := attempt(compiled.install):
            raise OSError(why)
        self.filter = compiled

    def _enter_namespaces(self) -> None:
        inner = (
            sc.CLONE_NEWUSER | sc.CLONE_NEWNS | sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS
        )
        uid, gid = os.getuid(), os.getgid()
        if self.uid is not None:
            # Only root may be able to read the interpreter's folder: show it before becoming uid.
            sc.unshare(sc.CLONE_NEWNS)
            private_root.build(self.read_only, self.packages)
            self._become_uid()
            uid = gid = self.uid
        sc.unshare(inner)
        private_root.map_user(uid, gid)
        if self.uid is None:
            private_root.build(self.read_only, self.packages)
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

        def check() -> None:
            if not self.has("namespaces"):
                self._become_uid()
            if not (os.access(os.__file__, os.R_OK) and os.access(sys.executable, os.X_OK)):
                raise OSError("the interpreter cannot be read")

        return attempt(check) == ""

    def give_up_uid(self, reason: str) -> None:
        """Run jobs as root, which makes the tier limits-only."""
        self.uid, self.layers["uid"] = None, reason
        self.neighbours = users.Neighbours(self.hidden_tasks)

    # Once per job

    def make_home(self) -> None:
        """Give this job an empty home and enter its working folder; call in its supervisor."""
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
        if self.has("namespaces"):
            private_root.mount_writable(self.home)
        if not self.has("namespaces") and self.uid is not None:
            for name in ("", *FOLDERS):
                os.chown(os.path.join(self.home, name), self.uid, self.uid)
        if self.has("landlock"):
            # /tmp and /dev/shm are the same folders, but not below the home.
            names = ("", *private_root.WRITABLE.values())
            own = [landlock.rule(f"{self.home}/{name}", landlock.EVERYTHING) for name in names]
            rules = (*self._readable, *own)
            self._ruleset = landlock.build(rules, block_tcp=not self.has("namespaces"))
            for one in own:
                os.close(one.descriptor)
        for name, value in (("HOME", "home"), ("TMPDIR", "tmp"), ("PWD", "work")):
            os.environ[name] = f"{self.home}/{value}"
        os.chdir(self.work)

    def _find_readable(self) -> tuple[landlock.Rule, ...]:
        shown = ["/"] if self.has("namespaces") else [*private_root.system_paths(), *self.read_only]
        wanted = [(path, landlock.READ_ONLY) for path in shown]
        wanted += [(f"/dev/{name}", landlock.DEVICE) for name in private_root.DEVICES]
        return tuple(landlock.rule(*pair) for pair in wanted if os.path.exists(pair[0]))

    def give_to_jailed_user(self, path: Path) -> None:
        """Let the jailed user own a file that the supervisor wrote into the working folder."""
        if self.uid is None or self.has("namespaces"):
            return
        os.chown(path, self.uid, self.uid)
        for folder in path.relative_to(self.work).parents:
            os.chown(Path(self.work, folder), self.uid, self.uid)

    def reset_work(self) -> None:
        """Empty the working folder for the next command; no process of the job may be running."""
        os.chdir("/")
        remove_tree(self.work)
        os.mkdir(self.work, 0o700)
        if self.uid is not None and not self.has("namespaces"):
            os.chown(self.work, self.uid, self.uid)
        os.chdir(self.work)

    @property
    def work(self) -> str:
        """The working folder, which candidate and tests share."""
        return f"{self.home}/work"

    def remove_home(self) -> None:
        """Remove the job's home; a tmpfs of its own disappears with its namespace."""
        if not self.has("namespaces"):
            process_tree.sweep(self.uid, self.proc_fd)
            os.chdir("/")
            remove_tree(self.home)

    # Once per process

    def spawn(
        self,
        body: Callable[[], None],
        bounds: Bounds,
        keep: dict[int, int],
        watched: bool = True,
        in_cgroup: bool = True,
    ) -> Child:
        """Run `body` in a new jailed process family.

        Args:
            body: the code to run in the new process.
            bounds: limits of the family.
            keep: descriptors in the new process -> open descriptors of this one.
            watched: put a process above it that reports its exact end. Without it, a fork is saved;
                then, with namespaces, the process has pid 1 and ignores signals from itself, and
                without them, the supervisor adopts its orphans.
            in_cgroup: count the family in the job's cgroup, as every one that runs the candidate.
        """
        read_end, write_end = os.pipe()
        supervisor = os.getpid()
        namespaces = sc.CLONE_NEWPID | sc.CLONE_NEWNS | sc.CLONE_NEWIPC
        group = None
        if in_cgroup and self._jobs and self.has("cgroup"):
            self._jobs.bound(bounds.memory_mb, bounds.processes + 1)
            group = self._jobs.fd
        pid = sc.clone(namespaces if self.has("namespaces") else 0, group)
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
        """Be the first process of the family: start the body, reap orphans, report its end."""
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
                    process_tree.sweep(self.uid, proc_fd)
                os._exit(0)

    def _confine(self, bounds: Bounds, keep: dict[int, int]) -> None:
        """Drop every privilege of this process; the last step before the code under test runs."""
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
        """Kill all processes of these families and wait until they are gone."""
        self._alive = [child for child in self._alive if child not in children]
        pids = [child.pid for child in children]
        if self.has("namespaces"):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            statuses = {pid: os.waitpid(pid, 0)[1] for pid in pids}
        else:
            statuses = process_tree.end_others(self._pids_but(), pids, self.proc_fd)
        for child in children:
            if child.ended is None:
                poll_end(child, statuses[child.pid])
            os.close(child.status_fd)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed the last family in the cgroup for its memory."""
        return self._jobs is not None and self.has("cgroup") and self._jobs.ran_out()

    def memory_kb(self, child: Child, limit_kb: int) -> int:
        """Memory of the family now; exact (and slower) only if the quick sum is over `limit_kb`."""
        family = self._family_of(child)
        quick = process_tree.memory_kb(self.proc_fd, family)
        return quick if quick <= limit_kb else process_tree.share_kb(self.proc_fd, family)

    def disk_gauge(self) -> disk.Gauge | None:
        """Measures the current job's files; None if their file system has a size limit itself."""
        return None if self.has("namespaces") else disk.Gauge(self.home, self.proc_fd)

    def _family_of(self, child: Child) -> list[int]:
        if self.has("namespaces"):
            return process_tree.family_of(child.pid, self.proc_fd)
        return process_tree.others(self._pids_but(child), self.proc_fd)  # includes adopted orphans

    def _pids_but(self, *children: Child) -> set[int]:
        return {other.pid for other in self._alive if other not in children}


def _reason(action: Callable[[], None]) -> str:
    """Why `action` raised OSError; empty if it did not."""
    try:
        action()
    except OSError as error:
        return str(error)
    return ""
