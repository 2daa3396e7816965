"""The supported languages by file suffix and by the other names that data sets use."""

from collections.abc import Mapping
from pathlib import Path

from seccoderx_lite.core.records import LANGUAGES, Language

FILE_SUFFIXES: Mapping[Language, str] = {
    "python": "py",
    "javascript": "js",
    "c": "c",
    "cpp": "cpp",
    "java": "java",
    "go": "go",
}
"""Suffix of a source file, without the dot."""

_BY_NAME: Mapping[str, Language] = {
    **{language: language for language in LANGUAGES},
    **{suffix: language for language, suffix in FILE_SUFFIXES.items()},
    "python3": "python",
    "node": "javascript",
    "mjs": "javascript",
    "h": "c",
    "c++": "cpp",
    "cc": "cpp",
    "cxx": "cpp",
    "hpp": "cpp",
    "golang": "go",
}


def language_of(name: str) -> Language | None:
    """Return the language with this name, alias or file suffix, None if it is not supported.

    >>> language_of("C++"), language_of(".py"), language_of("rust")
    ('cpp', 'python', None)
    """
    return _BY_NAME.get(name.strip().lower().removeprefix("."))


def language_of_file(path: Path) -> Language | None:
    """Return the language of a file by its suffix, None if it is not supported.

    >>> language_of_file(Path("src/app.mjs")), language_of_file(Path("go"))
    ('javascript', None)
    """
    return language_of(path.suffix)
