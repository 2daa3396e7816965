"""Text from files, file names and models that is safe to print and to write as JSON."""

import re
import unicodedata
from pathlib import Path

from seccoderx_lite.reporting.findings import Finding

_REASONING_CHARS = 1000
_INVISIBLE = {"Cc", "Cf", "Zl", "Zp"}
"""Unicode categories: control and format characters, line and paragraph separators."""


def printable(text: str) -> str:
    r"""Return text with control characters and lone surrogates as escapes.

    >>> printable("a\x1b[31m\n.py"), printable("x \udcff")
    ('a\\x1b[31m\\n.py', 'x \\udcff')
    """
    return encodable("".join(_escaped(char) for char in text))


def _escaped(char: str) -> str:
    if char.isascii():
        is_shown = char.isprintable()
    else:
        is_shown = unicodedata.category(char) not in _INVISIBLE
    return char if is_shown else char.encode("unicode_escape").decode("ascii")


def encodable(text: str) -> str:
    """Return text in which lone surrogates, as in names that are not UTF-8, are escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable_path(path: Path, *, controls: bool = False) -> str:
    """Return a path to be shown; with `controls`, control characters stay, for JSON to escape."""
    return encodable(str(path)) if controls else printable(str(path))


def reasoning_of(finding: Finding) -> str:
    """Return the judge's reasoning on one line, without tags and verdict."""
    text = re.sub(r"<answer>.*?(</answer>|\Z)|</?think>", " ", finding.reasoning, flags=re.DOTALL)
    return printable(" ".join(text.split())[:_REASONING_CHARS])
