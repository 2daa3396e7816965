"""The supported languages by the names that data sets use, by file suffix and by first line."""

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

_SUFFIXES_OF: Mapping[Language, str] = {
    "python": "py pyw py3",
    "javascript": "js mjs cjs jsx ts mts cts tsx",
    "c": "c h",
    "cpp": "cpp cc cxx c++ cp hpp hh hxx h++ ipp ixx inl tpp txx cppm",
    "java": "java",
    "go": "go",
}
"""TypeScript counts as JavaScript with types: a judge that knows one reads the other."""
_BY_SUFFIX: Mapping[str, Language] = {
    suffix: language for language, suffixes in _SUFFIXES_OF.items() for suffix in suffixes.split()
}
_CPP_IN_CAPITALS = frozenset({".C", ".H"})
_NAMES: Mapping[str, Language] = {
    **{language: language for language in LANGUAGES},
    "python2": "python",
    "python3": "python",
    "node": "javascript",
    "nodejs": "javascript",
    "ecmascript": "javascript",
    "cplusplus": "cpp",
    "golang": "go",
}
_SHEBANG = re.compile(
    r"#!\s*\S*?(?:/env(?:\s+-\S+)*\s+(?:\w+=\S*\s+)*(?:\S*/)?|/|^)"
    r"(?:(?P<python>python|pypy)|(?P<javascript>node|nodejs|bun|deno))[\d.]*(?:\s|$)"
)


def language_of(name: str) -> Language | None:
    """Return the language with this name, alias or file suffix, None if it is not supported.

    >>> language_of("C++"), language_of(".py"), language_of("rust")
    ('cpp', 'python', None)
    """
    known = name.strip().lower().removeprefix(".")
    return _NAMES.get(known) or _BY_SUFFIX.get(known)


def language_of_file(path: Path) -> Language | None:
    """Return the language of a file by its suffix, None if it is not supported.

    `.h` counts as C; `source_files.language_of_source` reads the code to tell it from C++.

    >>> [language_of_file(Path(name)) for name in ("src/app.mjs", "a.C", "go")]
    ['javascript', 'cpp', None]
    """
    if path.suffix in _CPP_IN_CAPITALS:
        return "cpp"
    return _BY_SUFFIX.get(path.suffix.lower().removeprefix("."))


def language_of_script(first_line: str) -> Language | None:
    """Return the language that the first line of a script asks for.

    >>> language_of_script("#!/usr/bin/env python3"), language_of_script("#!/bin/sh")
    ('python', None)
    """
    match = _SHEBANG.match(first_line)
    if match is None:
        return None
    return "python" if match["python"] else "javascript"


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
    **_BY_SUFFIX,
    **_NAMES,
    **{name: language for language, names in _LABEL_NAMES.items() for name in names.split()},
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
