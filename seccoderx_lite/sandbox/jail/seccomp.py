"""The system-call filter, as a raw BPF program for x86_64 and aarch64.

It refuses calls that no tested program needs and that the other layers leave open: kernel features
with a history of vulnerabilities, new namespaces, sockets, and memory and messages that outlive a
process.
"""

import ctypes
import errno
import struct

from . import syscalls as sc

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

Numbers = tuple[int, int]
"""The number of a system call on x86_64 and on aarch64; -1 if it does not exist there."""


def _table(text: str) -> dict[str, Numbers]:
    """A table from text of the form `name x86_64 aarch64, ...`."""
    rows = [row.split() for row in text.split(",")]
    return {name: (int(x86_64), int(aarch64)) for name, x86_64, aarch64 in rows}


REFUSED = _table("""
    ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
    pidfd_getfd 438 438, process_madvise 440 440, add_key 248 217, request_key 249 218,
    keyctl 250 219, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51,
    open_tree 428 428, move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432,
    fspick 433 433, mount_setattr 442 442, open_tree_attr 467 467, unshare 272 97, setns 308 268,
    bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, kexec_load 246 104,
    kexec_file_load 320 294, init_module 175 105, finit_module 313 273, delete_module 176 106,
    reboot 169 142, swapon 167 224, swapoff 168 225, acct 163 89, quotactl 179 60,
    quotactl_fd 443 443, syslog 103 116, vhangup 153 58, name_to_handle_at 303 264,
    open_by_handle_at 304 265, fanotify_init 300 262, lookup_dcookie 212 18, memfd_secret 447 447,
    settimeofday 164 170, clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266,
    sethostname 170 161, setdomainname 171 162, iopl 172 -1, ioperm 173 -1, modify_ldt 154 -1,
    uselib 134 -1, shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semop 65 193,
    semctl 66 191, semtimedop 220 192, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187,
    mq_open 240 180, mq_unlink 241 181, memfd_create 319 279, io_setup 206 0, vmsplice 278 75,
    move_pages 279 239, migrate_pages 256 238
""")
"""Refused in every tier."""

_ABSENT = _table("""
    clone3 435 435, io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427
""")
"""Answered as if the kernel were older: programs then fall back to calls that a filter can read."""

_BY_PATH = _table("""
    chmod 90 -1, fchmodat 268 53, fchmodat2 452 452, chown 92 -1, lchown 94 -1, fchownat 260 54,
    utime 132 -1, utimes 235 -1, futimesat 261 -1, utimensat 280 88, setxattr 188 5,
    lsetxattr 189 6, removexattr 197 14, lremovexattr 198 15, setxattrat 463 463
""")
"""Calls that Landlock permits on the user's own files outside the sandbox."""

_BY_PID = _table("""
    prlimit64 302 261, sched_setaffinity 203 122, sched_setparam 142 118,
    sched_setscheduler 144 119, sched_setattr 314 274
""")
"""Calls on other processes of the user that Landlock permits; first argument 0 is the caller."""

_PRIORITIES = _table("setpriority 141 140, ioprio_set 251 30")

_SIGNALS = _table("""
    kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240
""")

_CLONE = (56, 220)
_PIDFD_SEND_SIGNAL = (424, 424)
_FCNTL = (72, 25)
_TRUNCATE, _OPENAT2 = (76, 45), (437, 437)
_OPEN, _OPENAT = (2, -1), (257, 56)
_ACCESS_AND_TRUNCATE, _TRUNCATE_ONLY = 0x203, (0x200, 0x203)
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_SOCKET = (41, 198)
_SOCKETPAIR = (53, 199)
_IOCTL = (16, 29)
_PRCTL = (157, 167)
_NEW_NAMESPACES = 0x7E020080
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_LOCAL_FAMILIES = (1, 2, 10)

_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06


def _refuse(code: int) -> int:
    return 0x00050000 | code


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _argument(place: int) -> bytes:
    return _instruction(_LOAD, 16 + 8 * place)


class Program:
    """A BPF program that the kernel runs before every system call."""

    def __init__(self, decisions: bytes) -> None:
        """Allow every call that `decisions`, each of which may return a verdict, let through."""
        code = _prologue() + decisions + _instruction(_RETURN, _ALLOW)
        self._code = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(self._code))
        self._program = ctypes.create_string_buffer(header, len(header))

    def install(self) -> None:
        """Apply to this process and its descendants; needs no_new_privs."""
        sc.prctl(22, 2, ctypes.c_ulong(ctypes.addressof(self._program)))


class Filter(Program):
    """The filter of every jailed process."""

    def __init__(
        self, local_sockets: bool, path_changes: bool, alone: bool, landlock_version: int
    ) -> None:
        """Compile.

        Args:
            local_sockets: allow Internet and Unix sockets; safe if the network namespace is empty.
            path_changes: allow chmod, chown, utime and setxattr by path; safe if no file outside
                the job's home belongs to the jailed user.
            alone: allow changes of priorities; safe if no other process can be seen.
            landlock_version: the version in use, 0 without Landlock; old versions block less.
        """
        code = refuse_all(REFUSED) + refuse_all(_ABSENT, errno.ENOSYS)
        if not path_changes:
            code += refuse_all(_BY_PATH)
        if not alone:
            code += refuse_all(_PRIORITIES)
            for numbers in _BY_PID.values():
                code += _when(numbers, _only(0, (0,)))
        if not alone and landlock_version < 3:
            code += self._no_truncation()
        code += refuse_new_namespaces()
        code += _when(_SOCKET, _only(0, _LOCAL_FAMILIES if local_sockets else ()))
        code += _when(_SOCKETPAIR, _only(0, (1,)))
        code += _when(_IOCTL, _never(1, (_TIOCSTI, _TIOCLINUX)))
        code += _when(_PRCTL, _never(0, (sc.PR_SET_PDEATHSIG,)))
        super().__init__(code)

    def _no_truncation(self) -> bytes:
        """Refuse to empty files, which Landlock permits on read-only files before version 3."""
        code = _when(_TRUNCATE, _instruction(_RETURN, _refuse(errno.EPERM)))
        code += _when(_OPENAT2, _instruction(_RETURN, _refuse(errno.ENOSYS)))
        for numbers, place in ((_OPEN, 1), (_OPENAT, 2)):
            masked = _argument(place) + _instruction(_AND, _ACCESS_AND_TRUNCATE)
            code += _when(numbers, masked + _never(None, _TRUNCATE_ONLY))
        return code


class SignalFilter(Program):
    """Lets process `pid` and its descendants send signals only to `pid` and its process group.

    For kernels whose Landlock does not confine signals, without namespaces that hide processes.
    """

    def __init__(self, pid: int) -> None:
        code = b""
        for numbers in _SIGNALS.values():
            code += _when(numbers, _only(0, (0, pid)))
        code += _when(_PIDFD_SEND_SIGNAL, _instruction(_RETURN, _refuse(errno.EPERM)))
        code += _when(_FCNTL, _never(1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)))
        code += _when(_IOCTL, _never(1, (_FIOSETOWN, _SIOCSPGRP)))
        super().__init__(code)


def refuse_all(table: dict[str, Numbers], code: int = errno.EPERM) -> bytes:
    """Refuse the calls of a table with this errno."""
    return b"".join(
        _when(numbers, _instruction(_RETURN, _refuse(code))) for numbers in table.values()
    )


def refuse_new_namespaces() -> bytes:
    """Refuse `clone` with a flag for a new namespace."""
    decision = _instruction(_EQUAL, 0, 1, 0) + _instruction(_RETURN, _refuse(errno.EPERM))
    masked = _argument(0) + _instruction(_AND, _NEW_NAMESPACES)
    return _when(_CLONE, masked + decision + _instruction(_RETURN, _ALLOW))


def _prologue() -> bytes:
    """Load the number of the call; kill the process if it uses another architecture's calls."""
    code = _instruction(_LOAD, 4)
    code += _instruction(_EQUAL, ARCHITECTURES[sc.MACHINE], 1, 0)
    code += _instruction(_RETURN, _KILL)
    code += _instruction(_LOAD, 0)
    code += _instruction(_AT_LEAST, 0x40000000, 0, 1)
    return code + _instruction(_RETURN, _refuse(errno.ENOSYS))


def _when(numbers: Numbers, body: bytes) -> bytes:
    """Run `body`, which must end in a verdict, if the call has this number."""
    number = numbers[list(ARCHITECTURES).index(sc.MACHINE)]
    if number < 0:
        return b""
    return _instruction(_EQUAL, number, 0, len(body) // 8) + body


def _only(place: int, values: tuple[int, ...]) -> bytes:
    """Allow these values of an argument and refuse all others."""
    code = _argument(place)
    for value in values:
        code += _instruction(_EQUAL, value, 0, 1) + _instruction(_RETURN, _ALLOW)
    return code + _instruction(_RETURN, _refuse(errno.EPERM))


def _never(place: int | None, values: tuple[int, ...]) -> bytes:
    """Refuse these values of an argument; with place None, of the value loaded last."""
    code = b"" if place is None else _argument(place)
    for value in values:
        code += _instruction(_EQUAL, value, 0, 1)
        code += _instruction(_RETURN, _refuse(errno.EPERM))
    return code + _instruction(_RETURN, _ALLOW)
