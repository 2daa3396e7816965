"""Find source files and read them.

A file that cannot be read as source is skipped with a reason; it never raises an error. What a
folder has besides is counted.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tree_sitter

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.languages import language_of_file, language_of_script
from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import parse
from seccoderx_lite.data.git_changes import ignored_by_git, repository_top

MAX_BYTES = 1_000_000
"""Larger files are usually generated or bundled code."""

_IGNORED_FOLDERS = {"node_modules", "__pycache__", "venv"}
_CPP_ONLY = {
    "class_specifier",
    "namespace_definition",
    "namespace_alias_definition",
    "template_declaration",
    "using_declaration",
    "alias_declaration",
    "access_specifier",
    "reference_declarator",
    "lambda_expression",
    "base_class_clause",
    "destructor_name",
    "operator_name",
}
"""Node types of C++ that C does not have."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: Path
    language: Language
    code: str
    root: Path
    """The path in which it was found: the file itself, or a folder."""

    @property
    def lines(self) -> int:
        """Number of lines; an unfinished last one counts."""
        return count_lines(self.code.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or function that is not reviewed, and why."""

    path: Path
    reason: str
    line: int | None = None
    """First line of the skipped function; None for a whole file."""
    lines: int = 0
    """Number of lines skipped; 0 for what is not text."""


def count_lines(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def find_sources(
    paths: Sequence[Path], passed_over: Counter[str] | None = None
) -> Iterator[SourceFile | Skipped]:
    """Yield every source file at or below the paths once, in order of name.

    A file that is itself one of the paths is read or skipped with a reason. In folders, the other
    files are passed over: those in other languages, hidden, linked or ignored by git, and those in
    the folders of package managers. `passed_over` counts them by the reason.

    Raises:
        DataError: a path does not exist.
    """
    counts: Counter[str] = Counter() if passed_over is None else passed_over
    seen: set[Path] = set()
    for path in paths:
        if not _exists(path):
            raise DataError(f"{path}: no such file or folder; check the path")
        for file in _below(path, counts) if path.is_dir() else [path]:
            if (place := file.resolve()) not in seen:
                seen.add(place)
                yield read_source(file, path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long
        return False


def _below(folder: Path, passed_over: Counter[str]) -> Iterator[Path]:
    place = folder.resolve()
    ignored = ignored_by_git(top) if (top := repository_top(folder)) else set()
    if not ignored.isdisjoint((place, *place.parents)):
        ignored = set()  # an ignored folder that is asked for is read
    for root, folders, files in os.walk(folder):
        here = place / Path(root).relative_to(folder)
        if here != top and ".git" in (*folders, *files):  # a submodule has its own rules
            ignored |= ignored_by_git(here)
        passed_over["ignored by git"] += sum(here / name in ignored for name in folders)
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and name not in _IGNORED_FOLDERS and here / name not in ignored
        )
        for name in sorted(files):
            if reason := _why_passed_over(Path(root) / name, here / name in ignored):
                passed_over[reason] += 1
            else:
                yield Path(root) / name


def _why_passed_over(file: Path, is_ignored: bool) -> str | None:
    if _language(file) is None:
        return "in other languages"
    if file.is_symlink():
        return "links"
    if file.name[0] == ".":
        return "hidden"
    return "ignored by git" if is_ignored else None


def _language(file: Path) -> Language | None:
    """Return the language of a file by its suffix; without one, by its first line."""
    if file.suffix:
        return language_of_file(file)
    try:
        if not file.is_file():
            return None
        with file.open("rb") as script:
            return language_of_script(script.readline(200).decode("utf-8", "replace"))
    except OSError:
        return None


def language_of_source(path: Path, code: str) -> Language | None:
    """Return the language of a file by its suffix; for `.h`, C++ if the code is C++."""
    language = language_of_file(path)
    is_ambiguous = language == "c" and path.suffix.lower() == ".h"
    return "cpp" if is_ambiguous and _is_cpp(code) else language


def _is_cpp(code: str) -> bool:
    """Return whether code has syntax of C++ and parses as such no worse than as C."""
    as_cpp, as_c = parse(code, "cpp"), parse(code, "c")
    nodes = list(_without_guards(as_cpp))
    return any(node.type in _CPP_ONLY for node in nodes) and _broken(nodes) <= _broken(
        list(_without_guards(as_c))
    )


def _without_guards(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """Yield all nodes but those in `#ifdef __cplusplus`, which a header of C has too."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type == "preproc_ifdef":
            name = node.child_by_field_name("name")
            if name is not None and name.text == b"__cplusplus":
                continue
        yield node
        stack.extend(node.children)


def _broken(nodes: Sequence[tree_sitter.Node]) -> int:
    """Return the number of bytes that the grammar cannot parse, and of tokens it misses."""
    return sum(
        node.end_byte - node.start_byte if node.is_error else node.is_missing for node in nodes
    )


def read_source(path: Path, root: Path) -> SourceFile | Skipped:
    """Return a file's code, or why it is skipped."""
    language = _language(path)
    try:
        if not path.is_file():
            return Skipped(path, "is not a regular file")
        if language is None:
            reason = f"its language is not supported ({path.suffix or 'no suffix'})"
            return Skipped(path, reason, lines=_lines_of(path))
        if (size := path.stat().st_size) > MAX_BYTES:
            reason = f"too large: {size} bytes, at most {MAX_BYTES}"
            return Skipped(path, reason, lines=_lines_of(path))
        data = path.read_bytes()
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror}")
    if b"\0" in data:
        return Skipped(path, "is binary")
    try:
        code = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start + 1})"
        return Skipped(path, reason, lines=count_lines(data))
    return SourceFile(path, language_of_source(path, code) or language, code, root)


def _lines_of(path: Path) -> int:
    """Return the number of lines of a file that is not read as a whole; 0 if it is not text."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if b"\0" in block:
                return 0
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")
