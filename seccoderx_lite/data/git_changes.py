"""Which lines of the working tree changed since a git reference, and which files git ignores.

The git commands run no hook, external diff or text conversion of the repository.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from seccoderx_lite.core.errors import DataError

LineSpan = tuple[int, int]
"""First and last line, counted from 1."""

_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_DIFF = (
    "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--text", "--find-renames",
    "--ignore-submodules=all",
)  # fmt: skip
_SUBMODULE = "160000"
"""Mode of a submodule in git's listings."""
_OF_A_HOOK = {
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_DIFF_OPTS", "GIT_EXTERNAL_DIFF",
    "GIT_LITERAL_PATHSPECS",
}  # fmt: skip
"""Variables that git sets in a hook; they would point every command to the hook's repository."""


def repository_top(path: Path) -> Path | None:
    """Return the folder of the innermost git repository that contains a path; None if none does."""
    place = path.resolve()
    return next((each for each in (place, *place.parents) if (each / ".git").exists()), None)


def outermost_top(path: Path) -> Path | None:
    """Return the repository that contains a path or, for a submodule, the one it is part of."""
    top = repository_top(path)
    while top is not None and _is_submodule(top):
        above = repository_top(top.parent)
        if above is None:
            break
        top = above
    return top


def ignored_by_git(top: Path) -> set[Path]:
    """Return the files and folders of a repository that git ignores; empty if git cannot tell."""
    command = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
    try:
        return {top / name.rstrip("/") for name in _names(_git(top, *command))}
    except DataError:
        return set()


class NotComparable(Exception):
    """A file that cannot be compared with the reference; the message is the reason."""


class Changes:
    """The lines of the working tree that changed since a git reference.

    As in a pull request, the comparison is with the merge base of the reference and HEAD. A
    submodule is compared with the commit that its superproject recorded there.
    """

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._bases: dict[tuple[Path, Path], str | None] = {}
        self._states: dict[tuple[Path, str], _State] = {}

    def lines_of(self, path: Path, root: Path | None = None) -> list[LineSpan] | None:
        """Return the changed spans of a file: [] if unchanged, None if the whole file is new.

        Args:
            path: The file.
            root: The scanned path that it was found in; the reference belongs to its repository.

        Raises:
            DataError: the file is not in a git repository, or the reference is unknown there.
            NotComparable: the file is in another repository than the reference.
        """
        top = repository_top(path.resolve().parent)
        if top is None:
            raise DataError(f"--since: {path} is not in a git repository; remove --since")
        commit = self._base(top, _home(root or path, top))
        if commit is None:
            return None
        state = self._state(top, commit)
        name = path.resolve().relative_to(top).as_posix()
        if name in state.untracked:
            return None
        if name not in state.changed:
            return []
        sides = {f":(literal){side}" for side in (name, state.changed[name])}
        diff = _git(top, *_DIFF, "--unified=0", commit, "--", *sorted(sides))
        return [_span(int(start), int(count or 1)) for start, count in _HUNK.findall(diff)]

    def _base(self, top: Path, home: Path) -> str | None:
        """Return the commit to compare a repository with; None if all of it is new."""
        if (top, home) not in self._bases:
            of_home = top == home
            self._bases[top, home] = self._merge_base(top) if of_home else self._recorded(top, home)
        return self._bases[top, home]

    def _merge_base(self, top: Path) -> str:
        commit = self._commit(top)
        base = _try_git(top, "merge-base", commit, "HEAD").strip()
        if not base and _is_shallow(top):
            raise DataError(
                f"--since: {self._reference} and HEAD have no common commit in {top}{_SHALLOW}"
            )
        return base or commit

    def _commit(self, top: Path) -> str:
        wanted = f"{self._reference}^{{commit}}"
        commit = _git(
            top, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted, may_fail=True
        )
        if not commit:
            hint = _SHALLOW if _is_shallow(top) else "; run git fetch, or give another reference"
            raise DataError(f"--since: {self._reference} is not known in {top}{hint}")
        return commit.strip()

    def _recorded(self, top: Path, home: Path) -> str | None:
        """Return the commit of a submodule that its superproject recorded at its own base."""
        above = repository_top(top.parent)
        if above is None or not above.is_relative_to(home):
            raise NotComparable(f"is in another git repository ({top})")
        name = top.relative_to(above).as_posix()
        base = self._base(above, home)
        entry = _git(above, "ls-tree", base, "--", name).split() if base else []
        if entry[:1] == [_SUBMODULE]:
            if not _try_git(top, "rev-parse", "--verify", "--quiet", f"{entry[2]}^{{commit}}"):
                raise NotComparable(
                    f"is in the submodule {name}, which lacks commit {entry[2][:12]}; run git "
                    "fetch there"
                )
            return entry[2]
        if _git(above, "ls-files", "--stage", "--", f":(literal){name}").startswith(_SUBMODULE):
            return None
        raise NotComparable(f"is in another git repository ({top})")

    def _state(self, top: Path, commit: str) -> "_State":
        if (top, commit) not in self._states:
            status = _git(top, *_DIFF, "--name-status", "-z", commit)
            untracked = _names(_git(top, "ls-files", "--others", "-z"))
            self._states[top, commit] = _State(_changed(status), untracked)
        return self._states[top, commit]


_SHALLOW = " (a shallow clone: run git fetch --unshallow, or check out with fetch-depth: 0)"


@dataclass(frozen=True, slots=True)
class _State:
    """How a working tree differs from a commit."""

    changed: dict[str, str]
    """Each changed file, with its name in the commit."""
    untracked: set[str]


def _home(root: Path, top: Path) -> Path:
    """Return the repository that the reference belongs to.

    That of the working folder if it contains the scanned path, as for git itself; otherwise that of
    the path or, for a submodule, its superproject.
    """
    here = repository_top(Path.cwd())
    if here is not None and root.resolve().is_relative_to(here):
        return here
    return outermost_top(root) or top


def _is_submodule(top: Path) -> bool:
    """Return whether a repository is a submodule: its `.git` is a file that says so."""
    try:
        return "/modules/" in (top / ".git").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _is_shallow(top: Path) -> bool:
    return _try_git(top, "rev-parse", "--is-shallow-repository").strip() == "true"


def _changed(status: str) -> dict[str, str]:
    """Read `--name-status -z`: one name per change, two (old and new) for a rename."""
    fields = iter(status.split("\0"))
    changed = {}
    for kind in filter(None, fields):
        old = next(fields)
        changed[next(fields) if kind[0] in "RC" else old] = old
    return changed


def _names(output: str) -> set[str]:
    return set(filter(None, output.split("\0")))


def _span(start: int, count: int) -> LineSpan:
    """Return the lines of a hunk; if lines were only removed, the lines around the gap."""
    return (start, start + count - 1) if count else (max(start, 1), start + 1)


def _try_git(folder: Path, *arguments: str) -> str:
    """Return what a git command prints, "" if it fails."""
    try:
        return _git(folder, *arguments)
    except DataError:
        return ""


def _git(folder: Path, *arguments: str, may_fail: bool = False) -> str:
    """Return what a git command prints; a failure without a message gives "" if it may fail."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    environment = {k: v for k, v in os.environ.items() if k not in _OF_A_HOOK} | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, check=False, env=environment
        )
    except OSError as error:
        raise DataError(f"--since: cannot run git: {error.strerror}") from error
    reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != 0 and not (may_fail and not reason):
        raise DataError(f"--since: {folder}: {reason[0] if reason else 'git failed'}")
    return done.stdout.decode("utf-8", "surrogateescape")
