"""Linux system calls that the standard library lacks, through ctypes.

Every function raises OSError with the kernel's errno. No policy is decided here.
"""

import ctypes
import os
import platform
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36

MACHINE = platform.machine()
_CLONE = {"x86_64": 56, "aarch64": 220}.get(MACHINE)
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(MACHINE)
_CAPSET = {"x86_64": 126, "aarch64": 91}.get(MACHINE)
_MOUNT_SETATTR = 442
_CLONE3 = 435
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_CLONE_INTO_CGROUP = 0x200000000

# PyDLL keeps the interpreter lock across the call, which a raw clone needs.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int | None, *arguments: object) -> int:
    """Make the system call `number`; integers are passed as 64-bit values."""
    if number is None:
        raise OSError(38, f"system call unknown on {MACHINE}")
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)} ({what})")
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    """Mount `source` of the given kind at `target`."""
    fstype = kind.encode() if kind else None
    data = options.encode() or None
    result = _libc.mount(source.encode(), target.encode(), fstype, ctypes.c_ulong(flags), data)
    _check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Detach the mount at `target`."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def make_read_only(target: str) -> None:
    """Make the mount at `target` and all mounts below it read-only, without set-uid and devices."""
    attributes = _MountAttributes(MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    path, size = ctypes.c_char_p(target.encode()), ctypes.sizeof(attributes)
    call(_MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, ctypes.byref(attributes), size)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root, and move the current root to `old`."""
    call(_PIVOT_ROOT, ctypes.c_char_p(new.encode()), ctypes.c_char_p(old.encode()))


def prctl(option: int, value: int, third: object = 0) -> None:
    """Set a property of this process; unused arguments are zero."""
    wide = ctypes.c_ulong(third) if isinstance(third, int) else third
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), wide, zero, zero), f"prctl {option}")


_CLONE_FIELDS = (
    "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup"
)


class _CloneArguments(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _CLONE_FIELDS.split()]


def clone(flags: int, cgroup: int | None = None) -> int:
    """Fork into new namespaces, and into a cgroup given by descriptor; returns 0 in the child.

    Only for single-threaded processes. The child must fork again before it runs other code,
    because the C library does not know about this fork.
    """
    if cgroup is None:
        return call(_CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0)
    arguments = _CloneArguments(
        flags=flags | _CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=cgroup
    )
    return call(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def empty_bounding_set() -> None:
    """Prevent every program started from now on from gaining a capability."""
    for number in range(64):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:
            break


def drop_capabilities() -> None:
    header = _CapabilityHeader(0x20080522, 0)
    call(_CAPSET, ctypes.byref(header), ctypes.byref(_NO_CAPABILITIES))


def die_with_parent(parent: int) -> None:
    """Be killed when the parent process ends; exit at once if it already has."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
