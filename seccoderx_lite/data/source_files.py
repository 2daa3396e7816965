"""Find source files, and which of their lines changed since a git reference.

A file that cannot be read as source is skipped with a reason; it never raises an error. The git
commands run no hook, filter or external diff of the repository.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.languages import language_of_file
from seccoderx_lite.core.records import Language

MAX_BYTES = 1_000_000
"""Larger files are usually generated or bundled code."""

_IGNORED_FOLDERS = {"node_modules", "__pycache__", "venv"}
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)

LineSpan = tuple[int, int]
"""First and last line, counted from 1."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: Path
    language: Language
    code: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or function that is not reviewed, and why."""

    path: Path
    reason: str
    line: int | None = None
    """First line of the skipped function; None for a whole file."""


def find_sources(paths: Sequence[Path]) -> Iterator[SourceFile | Skipped]:
    """Yield every source file at or below the paths once, in order of name.

    In folders, files in other languages, hidden files, links and the folders of package managers
    are ignored; a file that is itself one of the paths is skipped with a reason.

    Raises:
        DataError: a path does not exist.
    """
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        for file in [path] if path.is_file() else _below(path):
            if (place := file.resolve()) not in seen:
                seen.add(place)
                yield read_source(file)


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f[0] != "." and f not in _IGNORED_FOLDERS)
        for name in sorted(files):
            file = Path(root) / name
            if name[0] != "." and language_of_file(file) and not file.is_symlink():
                yield file


def read_source(path: Path) -> SourceFile | Skipped:
    """Return a file's code, or why it is skipped."""
    language = language_of_file(path)
    if language is None:
        return Skipped(path, f"its language is not supported ({path.suffix or 'no suffix'})")
    try:
        if not path.is_file():
            return Skipped(path, "is not a regular file")
        if (size := path.stat().st_size) > MAX_BYTES:
            return Skipped(path, f"too large: {size} bytes, at most {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror}")
    if b"\0" in data:
        return Skipped(path, "is binary")
    try:
        return SourceFile(path, language, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Skipped(path, f"is not UTF-8 (byte {error.start + 1})")


class Changes:
    """The lines of the working tree that changed since a git reference."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._changed: dict[Path, set[str]] = {}
        self._untracked: dict[Path, set[str]] = {}

    def lines_of(self, path: Path) -> list[LineSpan] | None:
        """Return the changed spans of a file: [] if unchanged, None if the whole file is new.

        Raises:
            DataError: the file is not in a git repository, or the reference is unknown there.
        """
        top = self._top(path)
        name = path.resolve().relative_to(top).as_posix()
        if name in self._untracked[top]:
            return None
        if name not in self._changed[top]:
            return []
        diff = _git(top, *_DIFF, "--unified=0", self._commit(top), "--", f":(literal){name}")
        return [_span(int(start), int(count or 1)) for start, count in _HUNK.findall(diff)]

    def _top(self, path: Path) -> Path:
        top = Path(_git(path.resolve().parent, "rev-parse", "--show-toplevel").rstrip("\n"))
        if top not in self._changed:
            commit = self._commit(top)
            self._changed[top] = _names(_git(top, *_DIFF, "--name-only", "-z", commit))
            self._untracked[top] = _names(_git(top, "ls-files", "--others", "-z"))
        return top

    def _commit(self, top: Path) -> str:
        reference = f"{self._reference}^{{commit}}"
        return _git(top, "rev-parse", "--verify", "--end-of-options", reference).strip()


_DIFF = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")


def _names(output: str) -> set[str]:
    return set(filter(None, output.split("\0")))


def _span(start: int, count: int) -> LineSpan:
    """Return the lines of a hunk; if lines were only removed, the lines around the gap."""
    return (start, start + count - 1) if count else (max(start, 1), start + 1)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise DataError(f"--since: cannot run git: {error.strerror}") from error
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DataError(f"--since: {folder}: {reason[0] if reason else 'git failed'}")
    return done.stdout.decode("utf-8", "surrogateescape")
