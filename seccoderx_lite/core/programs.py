"""What a piece of code defines, uses and does, by its syntax tree: enough to choose among blocks.

Whether code is a good answer (real code, a stub) is decided in `rewards`, not here.
"""

import ast
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import tree_sitter

from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import is_comment, is_docstring, parse, walk

MAX_LINE_SHARE_OF_MACROS = 0.05
"""Share of lines of C and C++ that need not parse, because tree-sitter cannot expand macros. With
it 86% of the real functions in SVEN parse, without it 59%."""

_WARNINGS_LOCK = threading.Lock()  # catch_warnings changes the state of the whole process

_WRAPPERS = re.compile(
    r"decorated_definition|export_statement|template_declaration|linkage_specification|namespace_"
    r"|^declaration_list|preproc_if|preproc_else|^(?:const|var|type)_declaration$|_spec_list$"
)
"""Top-level nodes whose children count as top-level."""
_DEFINITION = re.compile(r"function|class_|method|interface|enum_|record_|struct_|type_spec|union_")
_DECLARATION = re.compile(r"declaration$|assignment|preproc_(?:def|function_def)|_spec$")
_IMPORT = re.compile(r"import|preproc_include|package_|using_declaration")
_CALL = re.compile(r"call(?:_expression)?$|await|new_expression|^yield$")


@dataclass(frozen=True, slots=True)
class Program:
    """Names and deeds of one piece of code."""

    parses: bool
    """Grammatical in its language; in C and C++ apart from macros."""
    is_whole: bool
    """Parses without exception and does or defines something: prose and bare values do not."""
    defined: frozenset[str]
    """Names of its top-level functions, classes and variables."""
    imported: frozenset[str]
    """Names that its top-level imports bind (Python and JavaScript)."""
    used: frozenset[str]
    """Names it uses and does not define itself."""
    has_definitions: bool
    """Whether it defines a function or class at the top level."""
    runs: bool
    """Whether it does something when started: has a `main`, or statements at the top level."""
    is_test: bool
    """Whether all it defines is tests."""


def parses(code: str, language: Language, root: tree_sitter.Node) -> bool:
    """True when code with this syntax tree is grammatical in its language.

    Checked with tree-sitter; for Python also with Python's own parser, because tree-sitter accepts
    wrong indentation. In C and C++ one line in twenty may contain what only the preprocessor reads.
    """
    if language == "python":
        return not root.has_error and _python_tree(code) is not None
    if not root.has_error:
        return True
    if language not in ("c", "cpp"):
        return False
    faulty_lines = {
        line
        for node in walk(root)
        if node.is_error or node.is_missing
        for line in range(node.start_point[0], node.end_point[0] + 1)
    }
    return len(faulty_lines) <= MAX_LINE_SHARE_OF_MACROS * len(code.splitlines())


def _python_tree(code: str) -> ast.Module | None:
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        # ValueError: a null byte or lone surrogate; the last two: nesting too deep for the parser.
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


@lru_cache(maxsize=512)
def program_of(code: str, language: Language) -> Program:
    r"""Return what the code defines, uses and does.

    >>> program = program_of("import os\ndef ls(a): return os.listdir(a) + more()", "python")
    >>> program.defined, program.imported, sorted(program.used), program.runs
    (frozenset({'ls'}), frozenset({'os'}), ['more'], False)
    """
    root = parse(code, language)
    top = list(_top_level(root))
    definitions = [node for node in top if _defines(node)]
    imports = [node for node in top if _IMPORT.search(node.type)]
    defined = frozenset(name for node in top for name in _bound(node) if node not in imports)
    imported = frozenset(name for node in imports for name in _imported(node, language))
    is_grammatical = parses(code, language, root)
    runs = is_grammatical and _runs(root, top, language)
    tree = _python_tree(code) if language == "python" else None
    used = _used_in_python(tree) if tree else _used(root)
    names = {name for node in definitions for name in _bound(node)}
    return Program(
        parses=is_grammatical,
        is_whole=is_grammatical
        and not root.has_error
        and bool(definitions or runs or _binds_a_value(top, language)),
        defined=defined,
        imported=imported,
        used=used - defined - imported,
        has_definitions=bool(definitions),
        runs=runs,
        is_test=bool(names) and all(name.lower().startswith("test") for name in names),
    )


def _top_level(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    for node in root.named_children:
        if _WRAPPERS.search(node.type):
            yield from _top_level(node)
        elif not is_comment(node) and node.type != "decorator":
            yield node


def _defines(node: tree_sitter.Node) -> bool:
    """Whether a top-level node is a function or class, or assigns one to a name."""
    if _DEFINITION.search(node.type):
        return True
    values = [
        value
        for inner in node.named_children
        for field in ("value", "right")
        if (value := inner.child_by_field_name(field)) is not None
    ]
    return any(re.search("function|lambda|class", value.type) for value in values)


def _bound(node: tree_sitter.Node) -> Iterator[str]:
    """Yield the names that a top-level node binds."""
    if node.type == "expression_statement":
        for child in node.named_children:
            yield from _bound(child)
    elif "assignment" in node.type:
        left = node.child_by_field_name("left")
        yield from _identifiers([left] if left and left.type != "attribute" else [])
    elif _DEFINITION.search(node.type) or _DECLARATION.search(node.type):
        declarators = [
            child
            for child in node.named_children
            if "declarator" in child.type or child.type.endswith("_spec")
        ]
        name = node.child_by_field_name("name")
        if name is not None:
            yield from _identifiers([name])
        for declarator in declarators:
            yield from _declared(declarator)


def _declared(node: tree_sitter.Node) -> Iterator[str]:
    """Yield the name at the end of a chain of declarators."""
    inner = node.child_by_field_name("declarator") or node.child_by_field_name("name")
    if inner is not None:
        yield from _declared(inner)
    elif node.type.endswith("identifier"):
        yield _text(node)


def _identifiers(nodes: Iterable[tree_sitter.Node]) -> Iterator[str]:
    for root in nodes:
        for node in walk(root):
            if node.type.endswith("identifier"):
                yield _text(node)


def _text(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")


def _imported(node: tree_sitter.Node, language: Language) -> Iterator[str]:
    if language == "python":
        tree = _python_tree(_text(node))
        for statement in tree.body if tree else []:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias in statement.names:
                    yield alias.asname or alias.name.partition(".")[0]
    elif language == "javascript":
        yield from _identifiers([node])


def _used_in_python(tree: ast.Module) -> frozenset[str]:
    nodes = list(ast.walk(tree))
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {
        n.name
        for n in nodes
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler)
        and n.name
    }
    bound |= {
        alias.asname or alias.name.partition(".")[0]
        for n in nodes
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }
    return frozenset(read - bound)


def _used(root: tree_sitter.Node) -> frozenset[str]:
    """Names of called functions and of types; variables are too often local to tell."""
    found: set[str] = set()
    for node in walk(root):
        if node.type == "type_identifier":
            found.add(_text(node))
        elif _CALL.search(node.type):
            called = node.child_by_field_name("function") or node.child_by_field_name("constructor")
            if called is not None and called.type == "identifier":
                found.add(_text(called))
        elif node.type == "method_invocation":
            owner = node.child_by_field_name("object")
            if owner is not None and owner.type == "identifier":
                found.add(_text(owner))
    return frozenset(found)


def _runs(root: tree_sitter.Node, top: list[tree_sitter.Node], language: Language) -> bool:
    if language == "python":
        return any(_works_in_python(node) for node in top)
    if language == "javascript":
        return any(_CALL.search(node.type) for node in _outside_functions(top))
    return any("main" in _bound(node) for node in walk(root) if _DEFINITION.search(node.type))


def _works_in_python(node: tree_sitter.Node) -> bool:
    if _DEFINITION.search(node.type) or _IMPORT.search(node.type) or is_docstring(node):
        return False
    if node.type == "pass_statement":
        return False
    if node.type != "expression_statement":
        return True
    return any(_CALL.search(inner.type) for inner in walk(node))


def _outside_functions(nodes: Iterable[tree_sitter.Node]) -> Iterator[tree_sitter.Node]:
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        if not _DEFINITION.search(node.type):
            stack.extend(node.named_children)


def _binds_a_value(top: list[tree_sitter.Node], language: Language) -> bool:
    """Whether it imports or assigns; in C, C++ and Java prose can look like a declaration."""
    if language in ("c", "cpp", "java"):
        return any(node.type == "preproc_include" for node in top)
    return any(
        _IMPORT.search(node.type)
        or any(
            "assignment" in inner.type and inner.child_by_field_name("right")
            for inner in node.named_children
        )
        or "declaration" in node.type
        for node in top
    )
