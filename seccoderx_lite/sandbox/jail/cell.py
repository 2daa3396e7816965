"""The walls around a job: namespaces, private root, throw-away user, limits.

A `Cell` is built once per starter (`enter`), furnished anew for every job (`furnish`), and every
process that runs foreign code passes through `spawn`. Which layers could be had is found by doing
and is kept in `layers`: name -> "" when on, else the reason it is off.
"""

import contextlib
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import ending
from . import syscalls as sc

SYSTEM_FOLDERS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
SYSTEM_FILES = ("etc/alternatives", "etc/ld.so.cache", "etc/ld.so.conf", "etc/ld.so.conf.d")
DEVICES = ("null", "zero", "full", "random", "urandom")
FIRST_UID, UIDS = 64001, 400
DISK_MB = 64
OPEN_FILES = 256
IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""What starter and supervisor do not listen to."""


@dataclass(frozen=True)
class Bounds:
    """Limits of one jailed process family."""

    seconds: float
    memory_mb: int
    processes: int
    data_only: bool = False
    """Count the data segment, not the address space (Node, Java and Go reserve gigabytes)."""


@dataclass
class Child:
    """A jailed process family: the pid to kill and the pipe that reports its end."""

    pid: int
    status_fd: int
    ended: int | None = None
    """Wait status of the process that ran the body, once known."""


@dataclass
class Cell:
    """Where foreign code runs; see the module."""

    read_only: tuple[str, ...]
    """Folders beside the system's own that jailed processes may read."""
    scratch_parent: str
    """Folder for job folders where no private root can be had."""
    namespaces: bool = True
    uid: int | None = None
    layers: dict[str, str] = field(default_factory=dict)
    proc_fd: int = -1
    home: str = "/tmp"
    _lock: socket.socket | None = None
    _base_processes: int = 0

    # -- once per starter ---------------------------------------------------------------------

    def enter(self) -> None:
        """Build the walls that last for all jobs of this starter."""
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.getuid() == 0:
            self._take_uid()
        if self.namespaces:
            self._enter_namespaces()

    def _take_uid(self) -> None:
        """Reserve a user id that no other sandbox on this machine is using."""
        for number in range(FIRST_UID + os.getpid() % UIDS, FIRST_UID + 2 * UIDS):
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                lock.bind(f"\0seccoderx-lite-uid-{number}")
            except OSError:
                lock.close()
                continue
            self.uid, self._lock = number, lock
            return
        raise OSError("no free user id for the sandbox")

    def _enter_namespaces(self) -> None:
        inner = (
            sc.CLONE_NEWUSER | sc.CLONE_NEWNS | sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS
        )
        uid, gid = os.getuid(), os.getgid()
        if uid == 0 and self.uid is not None:
            # The interpreter may lie under a folder that only root enters: build the root first.
            sc.unshare(sc.CLONE_NEWNS)
            self._build_root()
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
            sc.prctl(sc.PR_SET_DUMPABLE, 1)
            uid = gid = self.uid
            sc.unshare(inner)
            _map_user(uid, gid)
        else:
            sc.unshare(inner)
            _map_user(uid, gid)
            self._build_root()
        with contextlib.suppress(OSError):
            socket.sethostname("sandbox")
        sc.empty_bounding_set()
        self.layers["namespaces"] = ""

    def _build_root(self) -> None:
        """Replace the root by a small tmpfs with read-only pieces of the old one."""
        sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
        sc.mount("root", "/tmp", "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "size=4m,mode=0755")
        os.mkdir("/tmp/old")
        sc.pivot_root("/tmp", "/tmp/old")
        os.chdir("/")
        for name in SYSTEM_FOLDERS + SYSTEM_FILES:
            _show(f"/{name}")
        for folder in self.read_only:
            _show(folder)
        java = Path("/old/etc")
        for item in sorted(java.glob("java*")):
            _show(f"/etc/{item.name}")
        os.mkdir("/dev")
        for name in DEVICES:
            os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
            sc.mount(f"/old/dev/{name}", f"/dev/{name}", None, sc.MS_BIND)
        os.symlink("/proc/self/fd", "/dev/fd")
        os.symlink("/tmp/.shm", "/dev/shm")
        os.mkdir("/tmp")
        os.mkdir("/proc")
        sc.mount("/old/proc", "/proc", None, sc.MS_BIND | sc.MS_REC)
        Path("/etc").mkdir(exist_ok=True)
        Path("/etc/passwd").write_text("sandbox:x:1000:1000::/tmp/.home:/bin/sh\n")
        Path("/etc/group").write_text("sandbox:x:1000:\n")
        Path("/etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        sc.unmount("/old")
        os.rmdir("/old")
        sc.mount("none", "/", None, sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | sc.MS_NOSUID)

    # -- once per job -------------------------------------------------------------------------

    def furnish(self) -> None:
        """Give this job (in its supervisor process) an empty scratch folder and enter it."""
        self._base_processes = 5
        if "namespaces" in self.layers and not self.layers["namespaces"]:
            sc.unshare(sc.CLONE_NEWNS)
            options = f"size={DISK_MB}m,nr_inodes=16384,mode=0700"
            sc.mount("scratch", "/tmp", "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, options)
            self.home = "/tmp"
        else:
            self.home = os.path.join(self.scratch_parent, f"job-{os.getpid()}")
            os.mkdir(self.home, 0o700)
        for name in ("work", ".home", ".shm"):
            os.mkdir(f"{self.home}/{name}", 0o700)
        if not self._has_namespaces and self.uid is not None:
            for name in ("", "/work", "/.home", "/.shm"):
                os.chown(self.home + name, self.uid, self.uid)
        os.environ.update(HOME=f"{self.home}/.home", TMPDIR=self.home, PWD=self.work)
        os.chdir(self.work)

    def hand_over(self, path: Path) -> None:
        """Let the jailed user own a file that the supervisor put into the scratch folder."""
        if self.uid is None or self._has_namespaces:
            return
        os.chown(path, self.uid, self.uid)
        for folder in path.relative_to(self.work).parents:
            os.chown(Path(self.work, folder), self.uid, self.uid)

    @property
    def work(self) -> str:
        """The scratch folder that candidate and tests share."""
        return f"{self.home}/work"

    @property
    def _has_namespaces(self) -> bool:
        return self.layers.get("namespaces") == ""

    def strip(self) -> None:
        """Remove the job's folder; a private one disappears with its namespace."""
        if not self._has_namespaces:
            ending.sweep(self.uid, self.proc_fd)
            os.chdir("/")
            ending.remove_tree(self.home)

    # -- once per process ---------------------------------------------------------------------

    def spawn(
        self, body: Callable[[], None], bounds: Bounds, keep: dict[int, int], watched: bool = True
    ) -> Child:
        """Run `body` in a new jailed process; `keep` maps its descriptors to present ones.

        A process that is not watched is the first of its namespace itself: cheaper by a fork, but
        it then ignores signals it sends to itself.
        """
        read_end, write_end = os.pipe()
        supervisor = os.getpid()
        if self._has_namespaces:
            pid = sc.clone(sc.CLONE_NEWPID | sc.CLONE_NEWNS | sc.CLONE_NEWIPC)
        else:
            pid = os.fork()
        if pid:
            os.close(write_end)
            return Child(pid, read_end)
        try:
            if self._has_namespaces:
                sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
                self._own_proc()
            else:
                sc.die_with_parent(supervisor)
            if watched or not self._has_namespaces:
                self._watch_over(body, bounds, keep, write_end)
            self._confine(bounds, {**keep, max(keep) + 1: write_end})
            body()
        finally:
            os._exit(70)

    def _own_proc(self) -> None:
        flags = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
        try:
            sc.mount("proc", "/proc", "proc", flags)
        except OSError:
            sc.mount("none", "/proc", "tmpfs", flags | sc.MS_RDONLY, "size=4k")

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
        _close_all_but(status_fd)
        if not self._has_namespaces:
            sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == pid:
                os.write(status_fd, struct.pack("i", status))
                if not self._has_namespaces:
                    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
                    ending.sweep(self.uid, proc_fd)
                os._exit(0)

    def _confine(self, bounds: Bounds, keep: dict[int, int]) -> None:
        os.setsid()
        _arrange_descriptors(keep)
        if not self._has_namespaces and self.uid is not None:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
            sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
            sc.prctl(sc.PR_SET_DUMPABLE, 1)
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.umask(0o022)
        _set_limits(bounds, self._base_processes)
        sc.drop_capabilities()

    def end(self, child: Child) -> None:
        """Kill the whole family and wait until it is gone."""
        if self._has_namespaces:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        else:
            ending.end_family(child.pid, self.proc_fd)
        _, status = os.waitpid(child.pid, 0)
        if child.ended is None:
            poll_end(child, status)
        os.close(child.status_fd)

    def memory_kb(self, child: Child, limit_kb: int) -> int:
        """Memory of the family now, read exactly only where the quick sum is over `limit_kb`."""
        quick = ending.family_memory_kb(self.proc_fd, child.pid)
        return quick if quick <= limit_kb else ending.family_share_kb(self.proc_fd, child.pid)


def _map_user(uid: int, gid: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")


def _show(path: str) -> None:
    """Make `path` of the old root appear in the new one, read-only; a symlink is copied."""
    old = f"/old{path}"
    if not os.path.lexists(old) or os.path.lexists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), path)
        return
    if os.path.isdir(old):
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    sc.mount(old, path, None, sc.MS_BIND | sc.MS_REC)
    sc.make_read_only(path)


def _close_all_but(kept: int) -> None:
    os.closerange(0, kept)
    os.closerange(kept + 1, 1 << 20)


def _arrange_descriptors(keep: dict[int, int]) -> None:
    """Make `keep` (new number -> present descriptor) the only open descriptors."""
    top = max(keep) + 1
    high = {new: os.dup2(old, 512 + new) for new, old in keep.items()}
    for new, old in high.items():
        os.dup2(old, new)
    os.closerange(top, 1 << 20)


def _set_limits(bounds: Bounds, base_processes: int) -> None:
    memory = bounds.memory_mb << 20
    cpu = int(bounds.seconds) + 2
    table = {
        resource.RLIMIT_DATA if bounds.data_only else resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_FSIZE: DISK_MB << 20,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: bounds.processes + base_processes,
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
    """Take the watcher's report; without one, `status` is how the family ended."""
    data = os.read(child.status_fd, 4)
    child.ended = struct.unpack("i", data)[0] if len(data) == 4 else int(status)


def now() -> float:
    """Monotonic seconds."""
    return time.monotonic()
