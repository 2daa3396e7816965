"""Code as lines of coloured words, for the page; the code is hostile and is only ever read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from pygments import lex
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Number, String
from pygments.util import ClassNotFound

from seccoderx_lite.reporting.page import safe

MOST_LINES = 150
"""Longest code that is coloured; the page must stay small."""
_CLASSES = ((Comment, "com"), (Keyword, "key"), (String, "str"), (Number, "num"))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of code; the mark is "add" or "del" if only one of two versions has it."""

    text: Markup
    mark: str = ""


def highlighted(code: str, language: str, marks: Sequence[str] = ()) -> list[Line]:
    """Return the lines of code; plain if they are many, or the language is not known.

    `marks` has the mark of each line, "" for none, and may be shorter than the code.

    >>> print(highlighted("if 1:", "python")[0].text)
    <span class="key">if</span> <span class="num">1</span>:
    """
    lines: list[list[Markup]] = [[]]
    for kind, text in _words(code, language):
        for number, part in enumerate(text.split("\n")):
            if number:
                lines.append([])
            if part:
                lines[-1].append(_word(kind, part))
    padded = [*marks, *[""] * len(lines)]
    return [Line(Markup("").join(words), mark) for words, mark in zip(lines, padded, strict=False)]


def _words(code: str, language: str) -> Iterator[tuple[Any, str]]:
    """Yield pieces of the code with their kind as the lexer knows it, None without a lexer."""
    if code.count("\n") >= MOST_LINES:
        yield None, code
        return
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        yield None, code
        return
    yield from lex(code, lexer)


def _word(kind: Any, text: str) -> Markup:
    for known, name in _CLASSES:
        if kind is not None and kind in known:
            return Markup('<span class="{}">{}</span>').format(name, safe(text))
    return safe(text)
