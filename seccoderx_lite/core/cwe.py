"""The CWE catalogue: what a weakness id means, for prompts and reports.

It has the weaknesses that code models are usually evaluated on, not all of MITRE's list. Ids and
names are MITRE's (source and version in `cwe.json`), the short descriptions are our own.
"""

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Language

_PREFIX = r"cwe[\s_:-]*"
_NUMBER = r"0*([1-9][0-9]{0,4})(?:\.0+)?(?!\w|[.-][0-9])"
_SEPARATOR = r"(?:[\s,;|/&+()\[\]{}'\"\u2192]|-*>|\band\b|\bor\b)*"
_ID = re.compile(rf"{_SEPARATOR}(?:{_PREFIX})?{_NUMBER}", re.IGNORECASE)
_NAMED_ID = re.compile(rf"(?<![\w-]){_PREFIX}{_NUMBER}", re.IGNORECASE)
_NEITHER_ID_NOR_TEXT = re.compile(rf"{_SEPARATOR}(?:cwe|[0-9])", re.IGNORECASE)
_NONE = re.compile(rf"{_SEPARATOR}(?:none|null|nan|n/a)?{_SEPARATOR}", re.IGNORECASE)


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
        DataError: it is not one CWE id; `ids_in` reads several.

    >>> normalise("cwe-089"), normalise(89), normalise("CWE-89: SQL Injection")
    ('CWE-89', 'CWE-89', 'CWE-89')
    """
    ids = ids_in(cwe)
    if len(ids) != 1:
        count = f"names {len(ids)} weaknesses, not one" if ids else "is not a CWE id"
        raise DataError(f"{cwe!r:.60} {count}; write it as 'CWE-89'")
    return ids[0]


def ids_in(value: object) -> tuple[str, ...]:
    """Return all CWE ids in a number, a text or a list of them, each once; () for none.

    A text may separate its ids in any usual way, and may describe each: "CWE-79, 80",
    "CWE-400->CWE-770", "CWE-89: SQL Injection". NaN, as pandas writes a missing value, is none.

    Raises:
        DataError: something in it is not a CWE id.

    >>> ids_in("[79, 80]"), ids_in([89.0, "CWE-79|CWE-89"]), ids_in(float("nan"))
    (('CWE-79', 'CWE-80'), ('CWE-89', 'CWE-79'), ())
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        numbers = _numbers_in(str(value))
        return tuple(dict.fromkeys(f"CWE-{number}" for number in numbers))
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return tuple(dict.fromkeys(each for entry in value for each in ids_in(entry)))
    raise DataError(f"{value!r:.60} is not a CWE id; write it as 'CWE-89'")


def _numbers_in(text: str) -> list[str]:
    """Return the numbers of the ids in a text: those in a list, and after other words "CWE-n"."""
    numbers: list[str] = []
    place = 0
    while True:
        if match := _ID.match(text, place):
            pass
        elif _NEITHER_ID_NOR_TEXT.match(text, place):
            raise DataError(f"{text!r:.60} is not a CWE id; write it as 'CWE-89'")
        elif not (match := _NAMED_ID.search(text, place)):
            break
        numbers.append(match.group(1))
        place = match.end()
    if not numbers and not _NONE.fullmatch(text):
        raise DataError(f"{text!r:.60} is not a CWE id; write it as 'CWE-89'")
    return numbers


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


def severity(cwe: str) -> float:
    """Return how severe a weakness usually is, 0 to 10, on the scale of CVSS.

    A judge knows the weakness, not the system, so this is a typical base score of its kind, chosen
    by us. A weakness without one has that of its most severe parent, or 5.0.

    >>> severity("CWE-89"), severity("CWE-117"), severity("CWE-9999")
    (9.0, 4.5, 5.0)
    """
    own = _SEVERITY.get(int(cwe.removeprefix("CWE-")))
    if own is not None:
        return own
    known = [_SEVERITY.get(int(each.removeprefix("CWE-"))) for each in get(cwe).parents]
    return max((each for each in known if each is not None), default=5.0)


_SEVERITY: Mapping[int, float] = {
    int(number): score
    for score, numbers in {
        9.0: "77 78 89 94 95 98 120 121 122 134 242 287 306 321 415 416 434 494 502 787 798 843",
        8.0: "22 74 88 90 91 119 190 191 250 259 269 284 290 295 347 470 611 639 643 680 732 749 "
        "788 805 824 829 862 863 912 915 918 943 1321 1336",
        7.0: "23 36 73 125 129 131 193 256 276 311 312 319 345 352 362 367 384 400 409 426 427 522 "
        "552 668 681 770 776 807 835 922 1188 1333",
        6.0: "79 80 93 113 200 322 323 326 327 328 329 330 331 335 338 377 378 476 521 538 565 601 "
        "613 674 690 759 760 780 908 916 942 1236 1240 1327",
        4.5: "20 116 117 170 185 203 208 209 215 252 354 369 401 404 489 532 614 617 665 667 693 "
        "697 703 704 754 755 772 799 1004 1275",
    }.items()
    for number in numbers.split()
}


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
