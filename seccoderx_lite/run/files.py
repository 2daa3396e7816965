"""Files that stay whole when the process that writes them is killed; used for every file we write.

A file is replaced atomically: written under a temporary name, synced, then renamed. JSON lines are
appended with one write each; a last line torn by a crash is cut off when the folder is repaired.
"""

import errno
import fcntl
import json
import logging
import math
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.records import Json

logger = logging.getLogger(__name__)

Record = TypeVar("Record")

_LOCK = ".lock"
_TEMPORARY = ".tmp"
_LONGEST_REASON = 300
_MAX_LINKS = 40
"""As many as Linux follows."""


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Write a file that takes the place of `path` when the block ends without an error.

    Whoever reads `path` sees the old text or all of the new one. A killed process leaves a hidden
    temporary file, which `repair` removes. A link stays: its target is replaced. A pipe or device,
    such as /dev/stdout, is written to.
    """
    target = _to_replace(path)
    if target is None:
        with path.open("a", encoding="utf-8", errors="replace") as file:
            yield file
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with temporary.open("w", encoding="utf-8", errors="replace") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power failure could leave an empty file
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def check_writable(path: Path) -> None:
    """Try whether a file can be written, without changing it; creates its folder.

    Raises:
        OSError: it cannot.
    """
    target = _to_replace(path)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        _temporary(target).touch()
        _temporary(target).unlink()
    elif not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    elif not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}{_TEMPORARY}")


def _to_replace(path: Path) -> Path | None:
    """Return the file that `path` leads to, links followed; None if it is not a regular file.

    Links in /proc, where /dev/stdout leads to, are open files: replacing such a file by name
    would leave it open under no name.

    Raises:
        OSError: it is a folder, or a link to itself.
    """
    place = path.absolute()
    for _ in range(_MAX_LINKS):
        if place.is_relative_to("/proc"):
            return None
        if not place.is_symlink():
            break
        place = place.parent / place.readlink()
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return None if place.exists() and not place.is_file() else place


def write_text(path: Path, text: str) -> Path:
    """Replace a file atomically."""
    with replacing(path) as file:
        file.write(text)
    return path


def write_json(path: Path, data: Json) -> Path:
    """Replace a JSON file atomically; numbers that are not finite become null."""
    # Serialised first: data that is not JSON must not leave a temporary file.
    text = json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def write_jsonl(path: Path, records: Iterable[Mapping[str, Json]]) -> None:
    """Replace a file of JSON lines atomically, one record at a time, so that any number fits."""
    with replacing(path) as file:
        for record in records:
            file.write(_line(record))


def read_json(path: Path) -> Json:
    """Return the data of a JSON file.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} is missing; check the path of its folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def read_object(path: Path) -> dict[str, Json]:
    """Return the data of a JSON file that has an object.

    Raises:
        RunFolderError: the file is missing or damaged, or has something else.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise _damaged(path, f"it must contain an object (got {data!r:.40})")
    return data


def _damaged(path: Path, why: object) -> RunFolderError:
    text = f"{why}"[:_LONGEST_REASON].partition("\n")[0]
    return RunFolderError(f"{path} is damaged: {text}; restore it, or delete it")


def read_record(path: Path, kind: type[Record]) -> Record:
    """Return the data of a JSON file as a record; keys that the record lacks are ignored.

    Raises:
        RunFolderError: the file is missing, damaged, or lacks a field of the record.
    """
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{place}: {first['msg']}") from error


def append_jsonl(path: Path, record: Mapping[str, Json]) -> None:
    """Append one record as one line; numbers that are not finite become null.

    The line has reached the kernel when this returns: only a power failure can lose it.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        _write_or_undo(descriptor, _line(record).encode("utf-8", errors="replace"))
    finally:
        os.close(descriptor)


def read_jsonl(path: Path, keys: Mapping[str, type] | None = None) -> Iterator[dict[str, Json]]:
    """Yield the records of a file, none if it is missing; an unfinished last line is skipped.

    `keys` are those that every record must have, with the type of their values.

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
                record = json.loads(line)
                _check_keys(record, keys or {})
            except (ValueError, RecursionError) as error:
                raise RunFolderError(
                    f"{path}, line {number} is damaged: {error}; restore or delete the line"
                ) from error
            yield record


def _check_keys(record: Json, keys: Mapping[str, type]) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"it must be an object (got {record!r:.40})")
    for key, kind in keys.items():
        if not isinstance(record.get(key), kind):
            raise ValueError(f"{key} must be of type {kind.__name__} (got {record.get(key)!r:.40})")


def repair(folder: Path) -> None:
    """Remove what a killed process left: temporary files, and an unfinished last line."""
    for leftover in folder.rglob(f".*{_TEMPORARY}"):
        leftover.unlink()
    for path in folder.glob("*.jsonl"):
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            logger.warning("%s: removed the unfinished last line left by a crash", path)
            os.truncate(path, whole)


def lock(path: Path) -> int:
    """Lock a folder, created if necessary, until the returned descriptor is closed.

    A POSIX record lock: unlike `flock`, forked workers do not inherit it, so a worker that outlives
    a killed run does not keep its folder locked.

    Raises:
        RunFolderError: the folder cannot be created, or another process has locked it.
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
                f"{path} is in use by {holder}; wait until it ends, stop it, or choose another "
                "--run-folder"
            ) from error
        if (path / _LOCK).exists() and os.path.samestat(
            os.fstat(descriptor), os.stat(path / _LOCK)
        ):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # another process has just moved the folder aside: lock the new one


def finite(data: Json) -> Json:
    """Return the same data with null for every NaN and infinity, which JSON cannot represent."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return data


def _line(record: Mapping[str, Json]) -> str:
    return json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def _write_or_undo(descriptor: int, data: bytes) -> None:
    """Append all of the data or, if the disk is full, nothing."""
    size = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def _sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
