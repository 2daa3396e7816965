"""Syntax trees of the six languages by tree-sitter, and code with its comments removed.

One grammar package per language (`tree-sitter-python`, ...) instead of one pack: these ship the
compiled grammar in the wheel, so nothing is fetched when code is parsed, and they exist both for
current tree-sitter and for the 0.22 that the `codebleu` package pins.

What counts as parsing, as a stub or as similar is decided in `rewards`, not here.
"""

import importlib
import re
from collections.abc import Iterator
from functools import cache

import tree_sitter

from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.records import Language

_COMMENT_TYPES = frozenset({"comment", "line_comment", "block_comment", "html_comment"})
_COMMENT_IN_MACRO = re.compile(
    rb"""(?P<literal>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|//.*|/\*.*?\*/""", re.DOTALL
)
_Cut = tuple[int, int, bytes]
"""Start and end of a byte range to remove, and its replacement."""


@cache
def _grammar(language: Language) -> tree_sitter.Language:
    pointer = importlib.import_module(f"tree_sitter_{language}").language()
    try:
        return tree_sitter.Language(pointer)
    except (TypeError, ValueError) as error:
        raise ImportError(
            f"tree-sitter-{language} is too new for the tree-sitter that is installed (codebleu "
            f"needs an old one). Install both as: {install_command('codebleu')} or undo it "
            "with: pip install --upgrade tree-sitter"
        ) from error


def parse(code: str, language: Language) -> tree_sitter.Node:
    """Return the root of the syntax tree; broken code gives ERROR nodes, never an exception."""
    # A parser is cheap to make and not safe to share between threads; the grammar is neither.
    parser = tree_sitter.Parser(_grammar(language))
    return parser.parse(to_bytes(code)).root_node


def to_bytes(code: str) -> bytes:
    """Return UTF-8; lone surrogates, which UTF-8 cannot encode, become "?"."""
    return code.encode("utf-8", "replace")


def is_comment(node: tree_sitter.Node) -> bool:
    """Return whether a node is a comment in any of the languages; a docstring is not."""
    return node.type in _COMMENT_TYPES


def walk(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """Yield every node of the tree, each before its children, in the order of the text."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def is_docstring(node: tree_sitter.Node) -> bool:
    """Return whether a Python statement is only a string and evaluates nothing."""
    if node.type != "expression_statement" or node.named_child_count != 1:
        return False
    return node.named_children[0].type in {"string", "concatenated_string"} and not any(
        child.type == "interpolation" for child in walk(node)
    )


def strip_comments(code: str, language: Language) -> str:
    r"""Return code without comments; what it computes and every string it uses stay the same.

    In Python a statement that is only a string (usually a docstring) is a comment too; a body left
    empty gets a `pass`. Lines that held only a comment disappear; line breaks become \n.

    >>> strip_comments('def f(a):\n    "Safe."\n    return a  # "# no"\n', "python")
    'def f(a):\n    return a\n'
    >>> strip_comments('int f(void) { /* why */ return 0; } // done\n', "c")
    'int f(void) { return 0; }\n'
    """
    code = code.replace("\r\n", "\n")
    source = to_bytes(code)
    pieces, position = [], 0
    for start, end, substitute in sorted(_cuts(parse(code, language), source, language)):
        if start < position:  # inside a cut already made
            continue
        start, end, substitute = _widen(source, start, end, substitute)
        pieces += [source[position : max(start, position)], substitute]
        position = end
    return b"".join([*pieces, source[position:]]).decode("utf-8")


def _cuts(root: tree_sitter.Node, source: bytes, language: Language) -> Iterator[_Cut]:
    for node in walk(root):
        if is_comment(node):
            # A comment over several lines ends the statement in JavaScript and Go.
            has_newline = b"\n" in source[node.start_byte : node.end_byte]
            yield node.start_byte, node.end_byte, b"\n" if has_newline else b""
        elif node.type == "preproc_arg":  # grammars leave comments inside a macro's text
            for match in _COMMENT_IN_MACRO.finditer(source[node.start_byte : node.end_byte]):
                if match["literal"] is None:
                    yield node.start_byte + match.start(), node.start_byte + match.end(), b""
        elif language == "python" and node.type in {"module", "block"}:
            yield from _docstring_cuts(node)


def _docstring_cuts(block: tree_sitter.Node) -> Iterator[_Cut]:
    statements = [child for child in block.named_children if not is_comment(child)]
    is_only_docstrings = block.type == "block" and all(map(is_docstring, statements))
    for position, statement in enumerate(statements):
        if is_docstring(statement):
            shares_its_line = any(
                neighbour is not None and neighbour.type == ";"
                for neighbour in (statement.prev_sibling, statement.next_sibling)
            )
            needs_pass = shares_its_line or (is_only_docstrings and position == 0)
            yield statement.start_byte, statement.end_byte, b"pass" if needs_pass else b""


def _widen(source: bytes, start: int, end: int, substitute: bytes) -> _Cut:
    """Extend a cut over white space that is no longer needed: the whole line, or the gap before."""
    if substitute == b"pass":
        return start, end, substitute
    line_start = source.rfind(b"\n", 0, start) + 1
    line_end = source.find(b"\n", end)
    line_end = len(source) if line_end < 0 else line_end
    before, after = source[line_start:start], source[end:line_end]
    is_continued = source[:line_start].endswith(b"\\\n")
    if not after.strip():  # nothing follows on the line
        if not before.strip() and not is_continued:
            return line_start, min(line_end + 1, len(source)), b""
        return start - (len(before) - len(before.rstrip())), line_end, b""
    if substitute == b"\n":
        return start, end, b"\n"
    if before[-1:].isspace() or not before:
        return start, end + (len(after) - len(after.lstrip())), b""
    return start, end, b"" if after[:1].isspace() else b" "
