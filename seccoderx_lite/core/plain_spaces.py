"""Typographic spaces in code, which models copy from web pages and compilers refuse."""

import re

from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import parse, walk

_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_NOTHING = re.compile("[\u200b-\u200d\u2060\ufeff]")
_EITHER = re.compile(f"{_SPACES.pattern}|{_NOTHING.pattern}")
_TEXT = re.compile("string|char(?:acter)?_literal|rune_literal|comment|regex")
"""Types of syntax nodes in which such spaces mean what they are."""


def with_plain_spaces(code: str, language: Language | None) -> str:
    r"""Return code with plain spaces and no invisible ones, outside its texts and comments.

    >>> with_plain_spaces("def f():\n\u00a0\u00a0return '\u00a0'", "python")
    "def f():\n  return '\xa0'"
    """
    if language is None or not _EITHER.search(code):
        return code
    try:
        data = code.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return code
    parts, place = [], 0
    for start, end in _texts(code, language):
        if start >= place:
            parts += [_plain(data[place:start]), data[start:end]]
            place = end
    parts.append(_plain(data[place:]))
    return b"".join(parts).decode()


def _texts(code: str, language: Language) -> list[tuple[int, int]]:
    """Where the texts and comments are, in bytes."""
    nodes = [node for node in walk(parse(code, language)) if _TEXT.search(node.type)]
    return sorted((node.start_byte, node.end_byte) for node in nodes if node.is_named)


def _plain(data: bytes) -> bytes:
    return _NOTHING.sub("", _SPACES.sub(" ", data.decode())).encode()
