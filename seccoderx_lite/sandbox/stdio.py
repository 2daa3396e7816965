"""Tests of kind `stdio`: a whole program gets input, and its output is compared here.

What a program must print never reaches its jail. A case asks for one or more of
    stdout      the output, compared exactly, trimmed (default), by tokens, or as numbers
    lacks       text that must not appear in the output
    exit_code   the exit status; 0 unless given
and may give `stdin`, `args` and `files` (name -> text).
"""

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json
from seccoderx_lite.sandbox.plan import GROUPS, Group

_CASE_KEYS = {"stdin", "args", "files", "stdout", "lacks", "exit_code", "compare"}


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the program."""

    name: str
    group: Group
    given: Mapping[str, Json]

    def complaint(self, exit_code: int | None, stdout: str) -> str:
        """What is wrong with a finished run; empty when nothing is."""
        wanted_code = self.given.get("exit_code", 0)
        if exit_code != wanted_code:
            return f"exit status {exit_code}, expected {wanted_code}"
        lacks = self.given.get("lacks")
        if lacks is not None and lacks in stdout:
            return f"printed {lacks!r:.100}, which it must not"
        wanted = self.given.get("stdout")
        compare = COMPARISONS[self.given.get("compare", "trimmed")]
        if wanted is not None and not compare(stdout, wanted):
            return f"printed {stdout!r:.200}, expected {wanted!r:.200}"
        return ""


def plan_stdio(tests: Mapping[str, Json]) -> list[Case]:
    """The cases of `stdio` tests; DataError if there are none or one is unusable."""
    if unknown := sorted(set(tests) - {"kind", "compare", *GROUPS}):
        raise DataError(f"stdio tests: unknown key {unknown[0]!r}")
    cases = []
    for group in GROUPS:
        for number, given in enumerate(tests.get(group) or []):
            name = f"{group}[{number}]"
            if not isinstance(given, Mapping):
                raise DataError(f"stdio tests: {name} must be an object")
            whole = {"compare": tests.get("compare", "trimmed"), **given}
            _check(name, whole)
            cases.append(Case(name, group, whole))
    if not cases:
        raise DataError("stdio tests: no case in functionality or security")
    return cases


def _check(name: str, given: Mapping[str, Json]) -> None:
    if unknown := sorted(set(given) - _CASE_KEYS):
        raise DataError(f"stdio tests: {name} has the unknown key {unknown[0]!r}")
    if not {"stdout", "lacks", "exit_code"} & set(given):
        raise DataError(f"stdio tests: {name} needs stdout, lacks or exit_code")
    if given["compare"] not in COMPARISONS:
        known = ", ".join(COMPARISONS)
        raise DataError(f"stdio tests: {name}: compare must be one of {known}")
    for key in ("stdin", "stdout", "lacks"):
        if not isinstance(given.get(key, ""), str):
            raise DataError(f"stdio tests: {name}: {key} must be text")


def steps_for(
    cases: list[Case], start: tuple[str, ...], common: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The commands of an `exec` job, one for each case, each in a fresh scratch folder."""
    return [
        {
            **common,
            "command": [*start, *map(str, case.given.get("args", []))],
            "stdin": base64.b64encode(_bytes(case.given.get("stdin", ""))).decode(),
            "files": {
                name: base64.b64encode(_bytes(text)).decode()
                for name, text in case.given.get("files", {}).items()
            },
            "fresh": True,
            "go_on": True,
        }
        for case in cases
    ]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def same_numbers(printed: str, wanted: str) -> bool:
    """Token by token: numbers within 1e-6 relative or absolute, other tokens equal."""
    ours, theirs = printed.split(), wanted.split()
    return len(ours) == len(theirs) and all(map(_same_token, ours, theirs))


def _same_token(printed: str, wanted: str) -> bool:
    if printed == wanted:
        return True
    try:
        return math.isclose(float(printed), float(wanted), rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return False


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "exact": lambda printed, wanted: printed == wanted,
    "trimmed": lambda printed, wanted: _trimmed(printed) == _trimmed(wanted),
    "tokens": lambda printed, wanted: printed.split() == wanted.split(),
    "numbers": same_numbers,
}
