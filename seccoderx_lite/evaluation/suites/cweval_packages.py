"""Packages of Go and Node for CWEval's tasks: where they are, and how a jail sees them, read-only.

Go has two ways. If the checkout has a `go.mod`, tasks are built as its module, from the modules
that `go get` downloaded. Without one, Go finds Debian's packages (`golang-...-dev`). The results of
earlier builds on this machine are shown too, so that a jail need not compile Go's own library.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from seccoderx_lite.core.records import Language
from seccoderx_lite.sandbox.languages import TOOLS, find_tool

DEBIAN_GO = "/usr/share/gocode"
NODE_FOLDERS = (
    "/usr/local/lib/node_modules",
    "/usr/lib/node_modules",
    "/usr/share/nodejs",
)
MODULE_FILES = ("go.mod", "go.sum")
_GO_FOLDERS = ("GOMODCACHE", "GOCACHE")
_ASK_S = 20


def shown_folders(suites: Sequence[str]) -> list[str]:
    """Return the folders that jails need to read, if one of these suites is CWEval."""
    checkouts = [source.partition(":")[2] for source in suites if source.startswith("cweval:")]
    if not checkouts:
        return []
    found = [*_go_folders().values(), _node_root()]
    found += [str(Path(place).expanduser() / "node_modules") for place in checkouts]
    return [os.path.realpath(folder) for folder in found if folder and os.path.isdir(folder)]


def environment(language: Language, checkout: Path, modules: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which a task is built and run; `modules` are its module files."""
    if language == "javascript":
        folders = (str(checkout / "node_modules"), _node_root(), *NODE_FOLDERS)
        return {"NODE_PATH": ":".join(filter(None, folders))}
    if language != "go":
        return {}
    has_compiler = any(map(find_tool, TOOLS["c"]))
    return {
        **_go_folders(),
        "GO111MODULE": "on" if modules else "off",
        "GOPATH": DEBIAN_GO,
        "GOFLAGS": "-mod=mod" if modules else "",
        "GOPROXY": "off",
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "GOMAXPROCS": "2",
        "CGO_ENABLED": "1" if has_compiler else "0",
    }


def module_files(folder: Path, checkout: Path) -> dict[str, str]:
    """Return go.mod and go.sum from the first of a folder and its parents that has a go.mod."""
    for place in _up(folder, checkout):
        if (place / MODULE_FILES[0]).is_file():
            files = [place / name for name in MODULE_FILES if (place / name).is_file()]
            return {file.name: file.read_text("utf-8") for file in files}
    return {}


def _up(folder: Path, top: Path) -> Iterator[Path]:
    """The folder and its parents up to `top`."""
    yield folder
    if folder != top and top in folder.parents:
        yield from _up(folder.parent, top)


def go_get(checkout: Path, modules: Mapping[str, str]) -> str:
    """Return the command that gets a Go module, without the module's name."""
    start = "" if modules else "go mod init cweval && "
    return f"cd {shlex.quote(str(checkout))} && {start}go get"


@lru_cache(maxsize=1)
def _go_folders() -> dict[str, str]:
    """Go's folders of modules and of results of builds; empty without Go."""
    go = find_tool(("go",))
    found = _ask([go, "env", "-json", *_GO_FOLDERS]) if go else ""
    try:
        values = json.loads(found or "{}")
    except ValueError:
        return {}
    return {name: folder for name, folder in values.items() if os.path.isdir(folder)}


@lru_cache(maxsize=1)
def _node_root() -> str:
    """The folder of the Node packages that `npm install -g` installs; "" without npm."""
    npm = find_tool(("npm",))
    return _ask([npm, "root", "-g"]) if npm else ""


def _ask(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
