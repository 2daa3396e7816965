"""The supported languages by file suffix and by the other names that data sets use."""

import re
from collections.abc import Iterator, Mapping
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


_LABEL_NAMES: Mapping[str, str] = {
    "python": "py py3 pyw ipython pypy cpython sage",
    "javascript": "nodejs node.js jsx cjs es ecmascript javascriptreact",
    "c": "gnu ansi-c clang gcc",
    "cpp": "cplusplus c-plus-plus hxx hh gnu++ g++",
    "typescript": "typescript ts tsx mts cts typescriptreact",
    "csharp": "csharp c# cs dotnet",
    "rust": "rust rs",
    "ruby": "ruby rb",
    "php": "php",
    "shell": "shell bash sh zsh fish shell-session shellsession console terminal powershell ps1 "
    "pwsh cmd bat batch dos",
    "text": "text txt plaintext plain output none raw log tree ascii pycon python-repl stdout "
    "stdin input csv http mermaid env",
    "markdown": "markdown md mdx rst latex tex",
    "json": "json jsonc json5",
    "data": "yaml yml toml ini cfg conf properties xml html css scss sql graphql proto "
    "protobuf diff patch",
    "other": "dockerfile docker makefile make cmake gradle groovy kotlin swift scala perl lua r "
    "julia haskell elixir erlang dart matlab objective-c objectivec asm nasm vue svelte nginx hcl "
    "terraform zig",
}
_LABELS: Mapping[str, str] = {
    **{name: language for language, names in _LABEL_NAMES.items() for name in names.split()},
    **_BY_NAME,
}


def label_language(label: str) -> str | None:
    """Return the language that the label of a code fence names, None if it names none.

    Languages without support have a name as well, or share one, so that their code is not taken for
    that of another language.

    >>> [label_language(label) for label in ("{.python .numberLines}", "C++17", "src/add.py", "")]
    ['python', 'cpp', 'python', None]
    >>> label_language("sh"), label_language("solution")
    ('shell', None)
    """
    names = (name for word in re.findall(r"[\w+#./-]+", label.lower()) for name in _spellings(word))
    return next((_LABELS[name] for name in names if name in _LABELS), None)


def _spellings(word: str) -> Iterator[str]:
    """Yield what a word of a label may name: as it is, without version or prefix, a file's end."""
    word = word.strip("./-")
    yield word
    yield re.sub(r"^(?:language|lang|std)-", "", word)
    yield re.sub(r"[-_]?[\d.]+[a-z]?$", "", word)
    yield word.partition("#")[0]
    if "." in word:
        yield word.rpartition(".")[2]
