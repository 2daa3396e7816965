"""Landlock: restricts a process and its descendants to the folders of a ruleset, permanently.

`seccomp` blocks what Landlock does not cover: UDP, Unix sockets by path, chmod and the like.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from . import syscalls as sc

_CREATE, _ADD, _RESTRICT = 444, 445, 446

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_BY_VERSION = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
READ_ONLY = EXECUTE | READ_FILE | READ_DIR
DEVICE = READ_FILE | WRITE_FILE | _IOCTL_DEVICE
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEVICE
EVERYTHING = 0xFFFF
CONFINES_SIGNALS = 6
"""From this version on, a process can only signal processes under the same ruleset."""


class _Ruleset(ctypes.Structure):
    _fields_ = [
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def version() -> int:
    """The Landlock ABI version of this kernel; raises OSError if it has none."""
    return sc.call(_CREATE, 0, 0, 1)


@dataclass(frozen=True)
class Rule:
    """Rights below a path, given as an open descriptor."""

    descriptor: int
    rights: int


def rule(path: str, rights: int) -> Rule:
    """A rule for a path; a file gets only those rights that apply to files."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    return Rule(descriptor, rights if is_folder else rights & _FILE_RIGHTS)


def build(rules: Iterable[Rule], block_tcp: bool) -> int:
    """A descriptor of a ruleset that allows only `rules`."""
    abi = version()
    files = max(rights for since, rights in _BY_VERSION.items() if since <= abi)
    ruleset = _Ruleset(files, 3 if block_tcp and abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    descriptor = sc.call(_CREATE, ctypes.byref(ruleset), size, 0)
    for one in rules:
        packed = _PathRule(one.rights & files, one.descriptor)
        sc.call(_ADD, descriptor, 1, ctypes.byref(packed), 0)
    return descriptor


def restrict(descriptor: int) -> None:
    """Bind this process and its descendants to the ruleset."""
    sc.call(_RESTRICT, descriptor, 0)
