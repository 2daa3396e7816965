"""bubblewrap around a worker, where own namespaces are refused but an installed `bwrap` has them.

That is so where `bwrap` is set-uid root, or has an AppArmor profile of its own (Ubuntu). Inside it
the layers are looked for anew: own namespaces too, which some profiles then allow.
"""

import os
import stat
from collections.abc import Iterable

from seccoderx_lite.sandbox.jail import private_root
from seccoderx_lite.sandbox.jail.process import DISK_MB
from seccoderx_lite.sandbox.languages import find_tool


def prefix(read_only: Iterable[str], group: str) -> list[str]:
    """The command that starts another in namespaces by bubblewrap; empty where it is not installed.

    Only the system's programs and libraries and `read_only` can be seen inside; `group` is the
    folder of the worker's cgroup, or empty. /tmp is private; bounded, unless bwrap is set-uid root,
    which then refuses to.
    """
    bwrap = find_tool(("bwrap",))
    if bwrap is None:
        return []
    system = [part for path in private_root.shown() for part in _show(path)]
    extra = [part for path in read_only for part in ("--ro-bind", path, path)]
    devices = [
        part
        for name in private_root.DEVICES
        for part in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    ]
    own_group = ["--bind", group, group] if group else []
    bound = [] if os.stat(bwrap).st_mode & stat.S_ISUID else ["--size", str(DISK_MB << 20)]
    return [
        bwrap, "--unshare-all", "--proc", "/proc", *devices,
        "--symlink", "/proc/self/fd", "/dev/fd", *bound, "--tmpfs", "/tmp",
        *system, *extra, *own_group, "--chdir", "/", "--",
    ]  # fmt: skip


def _show(path: str) -> list[str]:
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path] if os.path.exists(path) else []
