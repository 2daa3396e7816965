"""Files of a folder that a killed process leaves whole.

Whole files are replaced atomically. Lines are appended in one write each; a line torn by a crash
is cut off when the folder is repaired.
"""

import fcntl
import json
import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.records import Json

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_TEMPORARY = ".tmp"


def write_text(path: Path, text: str) -> Path:
    """Replace a file as a whole: whoever reads it sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    with temporary.open("w", encoding="utf-8", errors="replace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)
    return path


def write_json(path: Path, data: Json) -> Path:
    """Replace a JSON file as a whole; numbers that are not finite become null."""
    text = json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def read_json(path: Path) -> Json:
    """Return the data of a JSON file.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} is missing") from error
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error


def append_jsonl(path: Path, record: Mapping[str, Json]) -> None:
    """Append one record as one line; numbers that are not finite become null.

    The line reaches the kernel before this returns, so that only a power failure can lose it.
    """
    line = json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        _write_or_undo(descriptor, line.encode("utf-8", errors="replace"))
    finally:
        os.close(descriptor)


def read_jsonl(path: Path) -> Iterator[dict[str, Json]]:
    """Yield the records of a file, none if it is missing; a line still being written is left.

    Raises:
        RunFolderError: a line is damaged.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RunFolderError(f"{path}, line {number} is damaged: {error}") from error


def repair(folder: Path) -> None:
    """Remove what a killed process left: unfinished files, and the torn end of a line."""
    for leftover in folder.rglob(f".*{_TEMPORARY}"):
        leftover.unlink()
    for path in folder.glob("*.jsonl"):
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            logger.warning("%s: cut off a line that a crash had torn", path)
            os.truncate(path, whole)


def lock(path: Path) -> int:
    """A descriptor that holds the folder's lock; the folder is created if need be.

    A POSIX record lock: unlike `flock` it is not inherited by forked workers, which might outlive
    a killed run and keep its folder locked.
    """
    while True:
        try:
            path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunFolderError(f"{path} cannot be a run folder: {error.strerror}") from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise RunFolderError(
                f"{path} is in use by {holder}; wait for it, stop it, or choose another "
                "--run-folder"
            ) from error
        if (path / _LOCK).exists() and os.path.samestat(
            os.fstat(descriptor), os.stat(path / _LOCK)
        ):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # another process moved the folder aside in between


def finite(data: Json) -> Json:
    """The same JSON with null for every number that JSON cannot hold."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return data


def _write_or_undo(descriptor: int, data: bytes) -> None:
    """Append all of the data or, where the disk is full, none of it."""
    size = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def _sync_folder(path: Path) -> None:
    """Make a rename in the folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
