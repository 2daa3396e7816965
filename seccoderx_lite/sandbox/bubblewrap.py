"""Runs a worker inside bubblewrap if only `bwrap` may make namespaces, not this process.

That is the case if `bwrap` is set-uid root, or has an AppArmor profile of its own (Ubuntu). The
starter then tests all layers inside it, namespaces too: some profiles allow them there.
"""

import os
import re
import stat
from collections.abc import Iterable

from seccoderx_lite.sandbox.jail import private_root
from seccoderx_lite.sandbox.jail.process import DISK_MB
from seccoderx_lite.sandbox.languages import find_tool


def prefix(read_only: Iterable[str], group: str) -> list[str]:
    """The command line to put before another one; empty if bubblewrap is not installed.

    The wrapped command sees the system's programs and libraries and the folders `read_only`, and
    a private /tmp. `group` is the folder of the worker's cgroup, or empty.
    """
    bwrap = find_tool(("bwrap",))
    if bwrap is None:
        return []
    system = [part for path in private_root.system_paths() for part in _show(path)]
    extra = _show_folders(list(read_only))
    devices = [
        part
        for name in private_root.DEVICES
        for part in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    ]
    own_group = ["--bind", group, group] if group else []
    # A set-uid bwrap refuses --size.
    size = [] if os.stat(bwrap).st_mode & stat.S_ISUID else ["--size", str(DISK_MB << 20)]
    options = ["--unshare-all", "--proc", "/proc", *devices]
    options += ["--symlink", "/proc/self/fd", "/dev/fd", *size, "--tmpfs", "/tmp"]
    return [bwrap, *options, *system, *extra, *own_group, "--chdir", "/", "--"]


def _show_folders(paths: list[str]) -> list[str]:
    """Options that show these folders; one below /tmp cannot be replaced through its parents."""
    inside = ["/".join(path.split("/")[:3]) for path in paths if re.match("/tmp/[^/]+/", path)]
    firsts = [first for first in dict.fromkeys(inside) if first not in paths]
    bases = [part for first in firsts for part in ("--tmpfs", first)]
    shown = [part for path in paths for part in ("--ro-bind", path, path)]
    return bases + shown + [part for first in firsts for part in ("--remount-ro", first)]


def _show(path: str) -> list[str]:
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path] if os.path.exists(path) else []
