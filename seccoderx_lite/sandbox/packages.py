"""Installed packages that the code under test may import: `sandbox.packages`.

A package is offered with what it requires, by its files alone: a jail can neither install anything
nor import what is not offered. Only tests of kind `pytest` see all packages of this environment.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from seccoderx_lite.core.errors import SandboxError

_NOT_FOUND = re.compile(r"No module named '([A-Za-z_]\w*)")
_REQUIRED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN_MODULES = {"candidate", "tests", "pytest"}


@dataclass(frozen=True, slots=True)
class Offer:
    """What the jails of a sandbox show besides the standard library."""

    modules: tuple[str, ...] = ()
    """The modules that were asked for, by the names that code imports."""
    entries: tuple[str, ...] = ()
    """Their files and folders, with those of the packages they require."""

    @property
    def folder(self) -> str:
        """The folder that has the first of them."""
        return os.path.dirname(self.entries[0]) if self.entries else ""


def find_packages(names: Iterable[str]) -> Offer:
    """Return the offer of these packages, given by the name of a package or of a module.

    Raises:
        SandboxError: a package is not installed, or only as a link to a source folder.
    """
    modules: dict[str, None] = {}
    entries: dict[str, None] = {}
    seen: set[str] = set()
    for name in names:
        found = _distributions(name)
        if not found:
            raise SandboxError(
                f"sandbox.packages: {name} is not installed in this environment; install it "
                f"(pip install {name}), or remove it from the list"
            )
        tops = [top for one in found for top in _modules(one)]
        modules |= dict.fromkeys([name] if name in tops else tops)
        for one in found:
            entries |= dict.fromkeys(_all_entries(one, seen))
    return Offer(tuple(modules), tuple(entries))


def _distributions(name: str) -> list[metadata.Distribution]:
    """The installed packages of this name, or with a module of this name."""
    try:
        return [metadata.distribution(name)]
    except (metadata.PackageNotFoundError, ValueError):
        return [metadata.distribution(one) for one in sorted(set(_owners().get(name, ())))]


@lru_cache(maxsize=1)
def _owners() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _all_entries(found: metadata.Distribution, seen: set[str]) -> list[str]:
    """Files and folders of a package and, as far as installed, of those it requires."""
    if found.name in seen:
        return []
    seen.add(found.name)
    entries = [str(path) for path in _entries(found)]
    for requirement in found.requires or ():
        name = _REQUIRED_NAME.match(requirement)
        if name and "extra ==" not in requirement:
            try:
                entries += _all_entries(metadata.distribution(name[0]), seen)
            except metadata.PackageNotFoundError:
                continue  # a requirement of other systems or Python versions
    return entries


def _entries(found: metadata.Distribution) -> list[Path]:
    """The files and folders of a package at the top of its site-packages folder."""
    tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "/")}
    paths = [Path(str(found.locate_file(top))) for top in sorted(tops - {"__pycache__"})]
    paths = [path for path in paths if path.exists() and path.suffix != ".pth"]
    if not any(_module_name(path) for path in paths):
        raise SandboxError(
            f"sandbox.packages: {found.name} has no modules of its own in this environment; "
            "install it from a wheel, not in editable mode"
        )
    return [path.parent.resolve() / path.name for path in paths]


def _modules(found: metadata.Distribution) -> list[str]:
    """The public modules of a package."""
    names = [_module_name(path) for path in _entries(found)]
    return [name for name in dict.fromkeys(names) if name and not name.startswith("_")]


def _module_name(path: Path) -> str:
    """The name under which a file or folder is imported; "" if it is not a module."""
    name = path.name.partition(".")[0]
    is_module = path.suffix in (".py", ".so") or (path.is_dir() and path.name.isidentifier())
    return name if is_module and name.isidentifier() else ""


def why_missing(output: str, offered: Sequence[str]) -> str:
    """Return how to offer the package that code could not import; "" if nothing is missing."""
    for name in _NOT_FOUND.findall(output):
        if name in sys.stdlib_module_names or name in _OWN_MODULES or name in offered:
            continue
        owners = _owners().get(name)
        listed = ", ".join([*offered, name])
        if owners:
            return f"{name} is not offered to the sandbox: set sandbox.packages: [{listed}]"
        return (
            f"{name} is not offered to the sandbox: install the package that has it, and set "
            f"sandbox.packages: [{listed}]"
        )
    return ""
