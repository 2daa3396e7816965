"""A private root folder: a small read-only tmpfs, with the system's folders mounted read-only."""

import os
from collections.abc import Iterable
from pathlib import Path

from . import syscalls as sc

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    # Node exits if it may not read its OpenSSL configuration; a missing file is not a problem.
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/crypto-policies",
    "/etc/ca-certificates",
    "/etc/protocols",
    "/etc/services",
    "/etc/mime.types",
    "/etc/timezone",
)
"""Configuration that runtimes read; nothing here is secret. Where only Landlock confines, a file
that is not listed is refused, not missing, and runtimes handle that worse."""
WRITABLE = {"/tmp": "tmp", "/dev/shm": "shm"}
"""Folders that every job can write to -> the folder of its home that is mounted there."""
HELD = "/shown"
"""Where folders below writable ones are kept between jobs."""
DEVICES = ("null", "zero", "full", "random", "urandom")
PACKAGES = "/packages"
"""The folder of links to offered Python packages."""


def system_paths(root: str = "") -> list[str]:
    """The system's files and folders that programs need; `root` prefixes the search for Java's."""
    java = [f"/etc/{item.name}" for item in sorted(Path(f"{root}/etc").glob("java*"))]
    return [*SYSTEM_FOLDERS, *SYSTEM_FILES, *java]


def build(extra: Iterable[str], packages: Iterable[str]) -> None:
    """Replace the root of this mount namespace.

    `extra` are more folders to mount, and `packages` the files and folders in PACKAGES.
    """
    extra = tuple(extra)
    sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
    sc.mount("root", "/tmp", "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "size=4m,mode=0755")
    os.mkdir("/tmp/old")
    sc.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    for path in (*system_paths("/old"), *extra):
        if _writable_above(path) is None:
            _show(path)
    _make_devices()
    os.mkdir("/box")
    link_packages(PACKAGES, packages)
    for folder in WRITABLE:
        os.makedirs(folder, exist_ok=True)
        inside = [path for path in extra if _writable_above(path) == folder]
        for path in inside:
            _show(path, f"{HELD}{path}")
    os.mkdir("/proc")
    sc.mount("/old/proc", "/proc", None, sc.MS_BIND | sc.MS_REC)
    Path("/etc").mkdir(exist_ok=True)
    Path("/etc/passwd").write_text("sandbox:x:1000:1000::/box/home:/bin/sh\n")
    Path("/etc/group").write_text("sandbox:x:1000:\n")
    Path("/etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    sc.unmount("/old")
    os.rmdir("/old")
    sc.mount("none", "/", None, sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | sc.MS_NOSUID)


def link_packages(folder: str, entries: Iterable[str]) -> None:
    """Make a folder of links to these files and folders; the first of a name counts."""
    os.mkdir(folder, 0o755)
    for entry in entries:
        link = f"{folder}/{os.path.basename(entry)}"
        if not os.path.lexists(link):
            os.symlink(entry, link)


def _make_devices() -> None:
    os.makedirs("/dev", exist_ok=True)
    for name in DEVICES:
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
        sc.mount(f"/old/dev/{name}", f"/dev/{name}", None, sc.MS_BIND)
    os.symlink("/proc/self/fd", "/dev/fd")
    os.symlink("/proc/self/fd/0", "/dev/stdin")
    os.symlink("/proc/self/fd/1", "/dev/stdout")
    os.symlink("/proc/self/fd/2", "/dev/stderr")


def _show(path: str, target: str = "") -> None:
    """Mount `path` of the old root in the new one, read-only; a symlink is copied."""
    old, target = f"/old{path}", target or path
    if not os.path.lexists(old) or os.path.lexists(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), target)
        return
    if os.path.isdir(old):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    sc.mount(old, target, None, sc.MS_BIND | sc.MS_REC)
    sc.make_read_only(target)


def _writable_above(path: str) -> str | None:
    """The writable folder of a jail that contains this path, or None."""
    return next((folder for folder in WRITABLE if path.startswith(f"{folder}/")), None)


def mount_writable(home: str) -> None:
    """Mount a job's own folders over the writable ones, and what is shown below them again.

    Each first folder below a writable one that leads to something shown is a mount of its own: a
    job can neither rename nor replace it.
    """
    for folder, name in WRITABLE.items():
        sc.mount(f"{home}/{name}", folder, None, sc.MS_BIND)
        held = f"{HELD}{folder}"
        for first in sorted(os.listdir(held)) if os.path.isdir(held) else ():
            target = f"{folder}/{first}"
            if os.path.isdir(f"{held}/{first}"):
                os.mkdir(target)
            else:
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
            sc.mount(f"{held}/{first}", target, None, sc.MS_BIND | sc.MS_REC)


def map_user(uid: int, gid: int) -> None:
    """Map user 1000 of a new user namespace to the given user outside."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")


def own_proc() -> None:
    """Mount this PID namespace's own /proc, or an empty folder if that is refused."""
    flags = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
    try:
        sc.mount("proc", "/proc", "proc", flags)
    except OSError:
        sc.mount("none", "/proc", "tmpfs", flags | sc.MS_RDONLY, "size=4k")
