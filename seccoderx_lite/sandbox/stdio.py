"""Tests of kind `stdio`: a whole program gets input, and its output is compared here.

The expected output never enters the program's jail. A case has one or more of
    stdout      the output, compared exactly, trimmed (default), by tokens, or as numbers
    lacks       text that must not appear in the output
    exit_code   the exit status (default: 0)
and optionally `stdin`, `args` and `files` (name -> text). For C and C++, the tests may name a
`standard` of the language, for example c11 or c++17.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json
from seccoderx_lite.sandbox.calls_tests import GROUPS, Group, check_file, check_keys, listed

_CASE_TYPES: dict[str, tuple[type, str]] = {
    "stdin": (str, "text"),
    "stdout": (str, "text"),
    "lacks": (str, "text"),
    "args": (list, "a list"),
    "files": (dict, "an object of names and texts"),
    "exit_code": (int, "an integer"),
}
_CASE_KEYS = {*_CASE_TYPES, "compare"}
_STANDARDS = {"c": r"(c|gnu)(89|90|99|11|17|18|2x|23)", "cpp": r"(c|gnu)\+\+[0-9][0-9a-z]"}


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the program."""

    name: str
    group: Group
    given: Mapping[str, Json]
    """The case as the task has it; see the top of this file."""

    @property
    def stdin(self) -> bytes:
        return _bytes(self.given.get("stdin", ""))

    @property
    def arguments(self) -> list[str]:
        return [str(argument) for argument in self.given.get("args", [])]

    @property
    def files(self) -> dict[str, bytes]:
        """Files in the working folder of this case alone."""
        return {name: _bytes(text) for name, text in self.given.get("files", {}).items()}

    def complaint(self, exit_code: int, stdout: str) -> str:
        """What is wrong with a finished run; empty if nothing is."""
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
    """The cases of `stdio` tests; raises DataError if there are none or one is unusable."""
    check_keys("stdio tests", tests, {"kind", "compare", "standard", *GROUPS})
    cases = []
    for group in GROUPS:
        for number, given in enumerate(listed(tests, group, "stdio")):
            name = f"{group}[{number}]"
            if not isinstance(given, Mapping):
                raise DataError(f"stdio tests: {name} must be an object")
            whole = {"compare": tests.get("compare", "trimmed"), **given}
            _check(name, whole)
            cases.append(Case(name, group, whole))
    if not cases:
        raise DataError("stdio tests: functionality and security have no cases; add at least one")
    return cases


def _check(name: str, given: Mapping[str, Json]) -> None:
    check_keys(f"stdio tests: {name}", given, _CASE_KEYS)
    if not {"stdout", "lacks", "exit_code"} & set(given):
        raise DataError(f"stdio tests: {name} needs stdout, lacks or exit_code")
    if given["compare"] not in COMPARISONS:
        known = ", ".join(COMPARISONS)
        raise DataError(f"stdio tests: {name}: compare must be one of {known}")
    for key, (kind, word) in _CASE_TYPES.items():
        value = given.get(key)
        if key in given and (not isinstance(value, kind) or isinstance(value, bool)):
            raise DataError(
                f"stdio tests: {name}: {key} must be {word} (got {type(value).__name__})"
            )
    for file, text in given.get("files", {}).items():
        check_file(f"stdio tests: {name}: files", file, text)


def check_standard(standard: Json, language: str) -> None:
    """Raise DataError for a standard that is not one of C or C++, or not of `language`."""
    if standard is None:
        return
    pattern = _STANDARDS.get(language)
    if pattern is None:
        raise DataError(f"stdio tests: standard is for C and C++ only, not for {language}")
    if not isinstance(standard, str) or not re.fullmatch(pattern, standard):
        example = "c11" if language == "c" else "c++17"
        raise DataError(
            f"stdio tests: standard must be one of {language}, such as {example} (got {standard!r})"
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def same_numbers(printed: str, wanted: str) -> bool:
    """Compare token by token: numbers to 1e-6 relative or absolute, other tokens exactly."""
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
