"""Split a source file into its functions, which a judge reads one by one.

Only the outermost functions count: nested ones are part of them. In Python and JavaScript the code
that runs when the file is loaded is one more piece; the other languages have none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter

from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import is_comment, is_docstring, parse, to_bytes, walk


def _types(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTIONS: dict[Language, frozenset[str]] = {
    "python": _types("function_definition"),
    "javascript": _types("""
        function_declaration generator_function_declaration method_definition arrow_function
        function_expression generator_function class_static_block
    """),
    "c": _types("function_definition"),
    "cpp": _types("function_definition lambda_expression"),
    "java": _types("""
        method_declaration constructor_declaration compact_constructor_declaration
        static_initializer lambda_expression
    """),
    "go": _types("function_declaration method_declaration func_literal"),
}
"""Node types of functions, as tree-sitter's grammars name them."""
_CLASSES = _types("""
    class_definition class_declaration class_specifier class struct_specifier interface_declaration
    enum_declaration record_declaration namespace_definition
""")
_BODIES = _types("block statement_block compound_statement constructor_body try_statement")
_WRAPPERS = _types("decorated_definition template_declaration export_statement")
_CALLS = _types("call call_expression new_expression")

MODULE = "<module>"
"""Name of the piece that runs when the file is loaded."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a source file, or the code that runs when the file is loaded."""

    name: str
    """With the names of its classes: `Shop.find`; "<anonymous>" if it has none."""
    code: str
    start_line: int
    """Counted from 1."""
    end_line: int
    """Last line, inclusive."""


def split_functions(code: str, language: Language) -> list[Function]:
    r"""Return the outermost functions of a file, and the code that runs when it is loaded.

    Broken code never raises an error: what the parser recognises is returned.

    >>> source = "import os\nclass A:\n    def f(self):\n        return 1\nos.system(cmd)\n"
    >>> [(f.name, f.start_line, f.end_line) for f in split_functions(source, "python")]
    [('A.f', 3, 4), ('<module>', 1, 5)]
    """
    source = to_bytes(code)
    root = parse(code, language)
    nodes = list(_outermost(root, language))
    found = [_function(node, source) for node in nodes]
    if language in ("python", "javascript"):
        found += _module(root, nodes, source)
    return found


def _outermost(node: tree_sitter.Node, language: Language) -> Iterator[tree_sitter.Node]:
    """Yield functions that are not nested in another, with their decorators, in textual order.

    A callback without a body of statements, such as `x => x + 1`, is part of the code around it.
    """
    stack = [node]
    while stack:
        each = stack.pop()
        if each.type in _FUNCTIONS[language] and _has_body(each):
            while each.parent is not None and each.parent.type in _WRAPPERS:
                each = each.parent
            yield each
        else:
            stack.extend(reversed(each.children))


def _has_body(node: tree_sitter.Node) -> bool:
    if node.type in {"class_static_block", "static_initializer"}:
        return True
    body = node.child_by_field_name("body")
    return body is not None and body.type in _BODIES


def _function(node: tree_sitter.Node, source: bytes) -> Function:
    # The whole first line: indentation is syntax in Python.
    start = source.rfind(b"\n", 0, node.start_byte) + 1
    if source[start : node.start_byte].strip():
        start = node.start_byte
    return Function(
        name=".".join(_names(node)) or "<anonymous>",
        code=_dedent(source[start : node.end_byte].decode("utf-8", "replace")),
        start_line=node.start_point[0] + 1,
        end_line=node.end_point[0] + 1,
    )


def _names(node: tree_sitter.Node) -> list[str]:
    inner = node
    while inner.type in _WRAPPERS:
        inner = inner.child_by_field_name("definition") or inner.named_children[-1]
    own = _name_of(inner)
    if own is None and node.parent is not None:  # const f = () => {}, {f: function () {}}, f = ...
        holder = node.parent.child_by_field_name("name") or node.parent.child_by_field_name("key")
        own = _text(holder or node.parent.child_by_field_name("left"))
    names = [own] if own else []
    above = node.parent
    while above is not None:
        if above.type in _CLASSES:
            names.insert(0, _text(above.child_by_field_name("name")) or "<anonymous>")
        above = above.parent
    return names if own else []


def _name_of(node: tree_sitter.Node) -> str | None:
    if name := node.child_by_field_name("name"):
        return _text(name)
    declarator = node.child_by_field_name("declarator")  # C and C++: int *(f)(void)
    while declarator is not None and declarator.type != "function_declarator":
        declarator = declarator.child_by_field_name("declarator")
    return _text(declarator.child_by_field_name("declarator")) if declarator else None


def _text(node: tree_sitter.Node | None) -> str | None:
    return node.text.decode("utf-8", "replace") if node is not None and node.text else None


def _dedent(code: str) -> str:
    """Remove the indentation of the first line from every line."""
    first = code.split("\n", 1)[0]
    margin = first[: len(first) - len(first.lstrip(" \t"))]
    return "\n".join(line.removeprefix(margin) for line in code.split("\n"))


def _module(
    root: tree_sitter.Node, functions: list[tree_sitter.Node], source: bytes
) -> list[Function]:
    """Return the statements outside functions as one piece, if any of them calls something."""
    inside = {node.id for node in functions}
    kept = [
        child
        for child in root.named_children
        if child.id not in inside
        and not is_comment(child)
        and not is_docstring(child)
        and not any(node.id in inside for node in walk(child))
    ]
    if not any(node.type in _CALLS for child in kept for node in walk(child)):
        return []
    code = "\n".join(
        source[child.start_byte : child.end_byte].decode("utf-8", "replace") for child in kept
    )
    return [Function(MODULE, code, kept[0].start_point[0] + 1, kept[-1].end_point[0] + 1)]
