"""Remove a job's folder, even if the job made that hard."""

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator


def remove_tree(path: str) -> None:
    """Remove a folder, however deep or locked it is, without following links."""
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        _remove_entry(parent, os.path.basename(path))
    finally:
        os.close(parent)


def _remove_entry(parent: int, name: str) -> None:
    """Remove one entry; folders are flattened first, so that depth does not matter."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
    except FileNotFoundError:
        return
    prefix = f"lifted-{os.urandom(8).hex()}"
    lifted = itertools.count()
    folder = _open_folder(parent, name)
    try:
        while entries := os.listdir(folder):
            for entry in entries:
                _clear_one(folder, entry, prefix, lifted)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def _clear_one(folder: int, entry: str, prefix: str, lifted: Iterator[int]) -> None:
    """Remove a file, or move a folder's subfolders up into `folder` and remove it."""
    if not stat.S_ISDIR(os.lstat(entry, dir_fd=folder).st_mode):
        os.unlink(entry, dir_fd=folder)
        return
    with contextlib.suppress(OSError):
        os.rmdir(entry, dir_fd=folder)  # most are empty
        return
    inner = _open_folder(folder, entry)
    try:
        for item in os.listdir(inner):
            if stat.S_ISDIR(os.lstat(item, dir_fd=inner).st_mode):
                os.chmod(item, 0o700, dir_fd=inner)
                name = f"{prefix}-{next(lifted)}"
                os.rename(item, name, src_dir_fd=inner, dst_dir_fd=folder)
            else:
                os.unlink(item, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(entry, dir_fd=folder)


def _open_folder(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, flags, dir_fd=parent)
