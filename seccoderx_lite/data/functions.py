"""Split a source file into its functions, which a judge reads one by one.

Only the outermost functions count: nested ones are part of them. All text outside the functions is
one more piece if it could do something: if it calls something, or the grammar cannot parse it.
"""

import re
from dataclasses import dataclass, field

import tree_sitter

from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import is_comment, is_docstring, parse, to_bytes


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
_CALLS = _types("""
    call call_expression new_expression method_invocation object_creation_expression
    explicit_constructor_invocation exec_statement
""")
_CALL_IN_MACRO = re.compile(rb"[A-Za-z_]\w*\s*\(")
_MACRO_CALL = re.compile(rb"(\w+)\s*\(\s*(\w+)", re.ASCII)
_MACRO_HEADS = _types("expression_statement declaration type_identifier ERROR")
"""What the grammar of C makes of a macro that begins a function: `SYSCALL_DEFINE2(foo, int, a)`."""
_MAX_CLASSES = 20
"""Names of classes before that of a function; deeper nesting is an attack or generated."""
_CUT, _CUT_FUNCTION = 0, 1
"""Bytes that mark removed text; they are in no source file that `source_files` accepts."""

MODULE = "<module>"
"""Name of the piece outside all functions."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a source file, or all the code outside functions."""

    name: str
    """With the names of its classes: `Shop.find`; "<anonymous>" if it has none."""
    code: str
    lines: tuple[int, ...]
    """Number in the file of each line of `code`, counted from 1."""
    signature_line: int
    """Line in the file with its name, below decorators and annotations."""

    @property
    def start_line(self) -> int:
        return self.lines[0]

    @property
    def end_line(self) -> int:
        """Last line, inclusive."""
        return self.lines[-1]


def split_functions(code: str, language: Language) -> list[Function]:
    r"""Return the outermost functions of a file, then the code outside them if it does something.

    Broken code never raises an error: what the grammar cannot parse is in one of the pieces.

    >>> source = "import os\nclass A:\n    def f(self):\n        return 1\nos.system(cmd)\n"
    >>> [(f.name, f.start_line, f.end_line) for f in split_functions(source, "python")]
    [('A.f', 3, 4), ('<module>', 1, 5)]
    >>> split_functions(source, "python")[1].code
    'import os\nclass A:\nos.system(cmd)'
    """
    source = to_bytes(code)
    survey = _Survey(language)
    survey.visit(parse(code, language))
    found = [_function(node, source) for node in survey.functions]
    return found + (_outside(survey, source) if survey.does_something else [])


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a function is in the tree."""

    first: tree_sitter.Node
    """Its first node: decorators, `export`, or the macro that heads it."""
    last: tree_sitter.Node
    name: str
    signature: tree_sitter.Node


@dataclass(slots=True)
class _Place:
    """A node that is not inside a function, with what its name depends on.

    Carried along on the way down: to ask a node for its parent costs a walk from the root.
    """

    node: tree_sitter.Node
    parent: tree_sitter.Node | None = None
    before: tree_sitter.Node | None = None
    """The named node before it, with the same parent."""
    wrapper: tree_sitter.Node | None = None
    classes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Survey:
    """What a file consists of: one pass over its tree, in textual order."""

    language: Language
    functions: list[_Found] = field(default_factory=list)
    comments: list[tree_sitter.Node] = field(default_factory=list)
    """Comments and docstrings outside functions."""
    does_something: bool = False
    """Whether code outside functions calls something or cannot be parsed."""

    def visit(self, root: tree_sitter.Node) -> None:
        stack = [_Place(root)]
        while stack:
            place = stack.pop()
            if found := self._function_at(place):
                self.functions.append(found)
            elif is_comment(place.node) or is_docstring(place.node):
                self.comments.append(place.node)
            elif place.node.type != "attribute_specifier":  # `__attribute__((...))` is not a call
                self.does_something |= _does_something(place.node)
                stack.extend(reversed(self._below(place)))

    def _below(self, place: _Place) -> list[_Place]:
        node, wrapper, classes = place.node, None, place.classes
        if node.type in _WRAPPERS:
            wrapper = place.wrapper or node
        if node.type in _CLASSES:
            name = _text(node.child_by_field_name("name")) or "<anonymous>"
            classes = (*classes[-_MAX_CLASSES:], name)
        before: list[tree_sitter.Node | None] = [None, *node.children[:-1]]
        return [
            _Place(child, node, earlier, wrapper, classes)
            for child, earlier in zip(node.children, before, strict=False)
        ]

    def _function_at(self, place: _Place) -> _Found | None:
        """Return the function that a node is, with its decorators; None if it is not one.

        A callback without a body of statements, such as `x => x + 1`, is part of the code around
        it. In C and C++ a body that the grammar gives to no function belongs to a macro before it.
        """
        node = place.node
        if node.type in _FUNCTIONS[self.language] and _has_body(node):
            name = _name_node(node) or _holder_name(place.parent)
            named = [*place.classes, _text(name)] if name else [self._macro_name(node)]
            return _Found(place.wrapper or node, node, ".".join(filter(None, named)), name or node)
        if node.type == "compound_statement" and self.language in ("c", "cpp"):
            head = place.before
            first = head if head is not None and head.type in _MACRO_HEADS else node
            return _Found(first, node, self._macro_name(first), first)
        return None

    def _macro_name(self, node: tree_sitter.Node) -> str:
        """Return a name such as "DEFINE_CMD(run)" for a function that a macro of C defines."""
        match = _MACRO_CALL.match(node.text or b"") if self.language in ("c", "cpp") else None
        return f"{match[1].decode()}({match[2].decode()})" if match else "<anonymous>"


def _does_something(node: tree_sitter.Node) -> bool:
    if node.type == "preproc_function_def":
        value = node.child_by_field_name("value")
        return value is not None and _CALL_IN_MACRO.search(value.text or b"") is not None
    return node.type in _CALLS or (node.is_error and node.start_byte < node.end_byte)


def _has_body(node: tree_sitter.Node) -> bool:
    if node.type in {"class_static_block", "static_initializer"}:
        return True
    body = node.child_by_field_name("body")
    return body is not None and body.type in _BODIES


def _function(found: _Found, source: bytes) -> Function:
    # The whole first line: indentation is syntax in Python.
    start = source.rfind(b"\n", 0, found.first.start_byte) + 1
    if source[start : found.first.start_byte].strip():
        start = found.first.start_byte
    code = source[start : found.last.end_byte].decode("utf-8", "replace").rstrip("\n")
    first = found.first.start_point[0] + 1
    return Function(
        name=found.name,
        code=_dedent(code),
        lines=tuple(range(first, first + code.count("\n") + 1)),
        signature_line=found.signature.start_point[0] + 1,
    )


def _holder_name(parent: tree_sitter.Node | None) -> tree_sitter.Node | None:
    """Return the name that a function is given: const f = () => {}, {f: function () {}}, f = ..."""
    if parent is None or parent.type in _CLASSES:
        return None
    fields = (parent.child_by_field_name(name) for name in ("name", "key", "left"))
    return next(filter(None, fields), None)


def _name_node(node: tree_sitter.Node) -> tree_sitter.Node | None:
    if name := node.child_by_field_name("name"):
        return name
    declarator = node.child_by_field_name("declarator")  # C and C++: int *(f)(void), T &f()
    while declarator is not None and declarator.type != "function_declarator":
        inner = declarator.child_by_field_name("declarator")
        is_reference = declarator.type == "reference_declarator"
        declarator = declarator.named_children[-1] if is_reference else inner
    return declarator.child_by_field_name("declarator") if declarator else None


def _text(node: tree_sitter.Node | None) -> str | None:
    """Return the text of a node on one line."""
    return " ".join(node.text.decode("utf-8", "replace").split()) if node and node.text else None


def _dedent(code: str) -> str:
    """Remove the indentation of the first line from every line."""
    first = code.split("\n", 1)[0]
    margin = first[: len(first) - len(first.lstrip(" \t"))]
    return "\n".join(line.removeprefix(margin) for line in code.split("\n"))


def _outside(survey: _Survey, source: bytes) -> list[Function]:
    """Return all text outside functions and comments; "..." where a line goes on after a cut."""
    rest = bytearray(source)
    for node in survey.comments:
        _cut(rest, node.start_byte, node.end_byte)
    for found in survey.functions:
        _cut(rest, found.first.start_byte, found.last.end_byte)
        rest[found.first.start_byte] = _CUT_FUNCTION
    kept = [
        (number, _without_cuts(line))
        for number, line in enumerate(bytes(rest).split(b"\n"), start=1)
        if line.translate(None, bytes([_CUT, _CUT_FUNCTION])).strip()
    ]
    if not kept:
        return []
    lines, texts = zip(*kept, strict=True)
    return [Function(MODULE, "\n".join(texts), lines, lines[0])]


def _cut(rest: bytearray, start: int, end: int) -> None:
    """Mark bytes as removed; line breaks stay, so that lines keep their numbers."""
    rest[start:end] = re.sub(rb"[^\n]", bytes([_CUT]), bytes(rest[start:end]))


def _without_cuts(line: bytes) -> str:
    shown = line.replace(bytes([_CUT_FUNCTION]), b"...").translate(None, bytes([_CUT]))
    return shown.decode("utf-8", "replace").rstrip()
