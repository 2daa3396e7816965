"""The CWE catalogue: what a weakness id means, for prompts and reports.

It has the weaknesses that code models are usually evaluated on, not all of MITRE's list. Ids and
names are MITRE's (source and version in `cwe.json`), the short descriptions are our own.
"""

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Language

_ID = re.compile(r"^\s*(?:cwe[\s_:-]*)?0*([1-9][0-9]{0,4})(?!\w|\.[0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cwe:
    """One weakness of the catalogue."""

    id: str
    """For example "CWE-89"."""
    name: str
    description: str
    """At most 25 words; empty for a weakness that is not in the catalogue."""
    common_name: str = ""
    """Short name in common use, where MITRE's name is long: "SQL Injection"."""
    parents: tuple[str, ...] = ()
    """Ids of its parents in MITRE's research view (1000)."""

    @property
    def short_name(self) -> str:
        """The common name if there is one, otherwise MITRE's: what prompts use.

        >>> get("CWE-89").short_name, get("CWE-787").short_name
        ('SQL Injection', 'Out-of-bounds Write')
        """
        return self.common_name or self.name


def normalise(cwe: str | int) -> str:
    """Return an id in the form "CWE-89".

    Raises:
        DataError: it is not a CWE id.

    >>> normalise("cwe-089"), normalise(89), normalise("CWE-89: SQL Injection")
    ('CWE-89', 'CWE-89', 'CWE-89')
    """
    match = _ID.match(str(cwe))
    if not match or isinstance(cwe, bool):
        raise DataError(f"{cwe!r} is not a CWE id; write it as 'CWE-89'")
    return f"CWE-{match.group(1)}"


def get(cwe: str | int) -> Cwe:
    """Return the catalogue's entry for an id in any common form.

    An id that the catalogue lacks must not end a run: it gives an entry whose name says so, with an
    empty description.

    Raises:
        DataError: it is not a CWE id.
    """
    known = normalise(cwe)
    return _entries().get(known) or Cwe(known, "weakness not in the catalogue", "")


def catalogue() -> tuple[Cwe, ...]:
    """Return all entries, in the order of their numbers."""
    return tuple(_entries().values())


def in_order(groups: Iterable[Iterable[str]]) -> list[str]:
    """Return every id in the groups once, in the order of their numbers.

    >>> in_order([["CWE-89", "CWE-78"], ["CWE-400"], ["CWE-89"]])
    ['CWE-78', 'CWE-89', 'CWE-400']
    """
    found = {cwe for group in groups for cwe in group}
    return sorted(found, key=lambda cwe: (len(cwe), cwe))


def is_same_or_kin(one: str, other: str) -> bool:
    """Return whether two ids are the same, or one is the other's parent.

    >>> is_same_or_kin("CWE-95", "CWE-94"), is_same_or_kin("CWE-89", "CWE-78")
    (True, False)
    """
    return one == other or one in get(other).parents or other in get(one).parents


def typical_of(language: Language) -> tuple[str, ...]:
    """Return the weaknesses that `scan` looks for in a language by default.

    >>> typical_of("c")[:3]
    ('CWE-78', 'CWE-119', 'CWE-125')
    """
    numbers = _TYPICAL[language].split()
    return tuple(f"CWE-{number}" for number in numbers)


_MEMORY = "78 119 125 134 190 362 416 476 787"
_TYPICAL: dict[Language, str] = {
    "python": "22 78 79 89 94 295 327 330 377 502 601 611 798 918",
    "javascript": "22 78 79 89 94 327 330 601 798 918 1321",
    "java": "22 78 79 89 327 330 502 601 611 798 918",
    "go": "22 78 79 89 295 327 330 362 476 798 918",
    "c": _MEMORY,
    "cpp": _MEMORY,
}


@functools.cache
def _entries() -> dict[str, Cwe]:
    text = (resources.files("seccoderx_lite.core") / "cwe.json").read_text(encoding="utf-8")
    entries = json.loads(text)["entries"]
    return {
        entry["id"]: Cwe(**{**entry, "parents": tuple(entry.get("parents", ()))})
        for entry in entries
    }
