"""What the text of the code shows: its length, whether it parses, whether it is a stub.

Nothing here runs code. The stub check knows the usual ways to write code that does nothing; a
policy can find others, so functional tests remain the real protection.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

import tree_sitter

from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import is_comment, is_docstring, parse, walk

MAX_LINES_WITHOUT_REFERENCE = 400
_FUNCTION_TYPES = frozenset(
    {
        "arrow_function",
        "constructor_declaration",
        "func_literal",
        "function_declaration",
        "function_definition",
        "function_expression",
        "generator_function",
        "generator_function_declaration",
        "lambda_expression",
        "method_declaration",
        "method_definition",
    }
)
"""Nodes with a body, in any of the grammars."""
_WORK_TYPE = re.compile(r"call(?:_expression)?$|invocation|creation|new_expression|await|yield")
_TOP_LEVEL_WORK_TYPE = re.compile(
    _WORK_TYPE.pattern + r"|^(?:if|for|while|do|with|try|switch|match)_|binary_|boolean_operator"
    r"|comparison_operator|comprehension|augmented_assignment|subscript"
)
_EMPTY_TYPES = frozenset({"pass_statement", "empty_statement", "ellipsis", ";"})
_RAISE_TYPES = frozenset({"raise_statement", "throw_statement"})
_MESSAGE_TYPES = _RAISE_TYPES | {"expression_statement", "return_statement"}
_EXCUSE = re.compile(
    r"\b(?:TODO|FIXME)\b"
    r"|(?i:\bnot\W*(?:yet\W*)?implemented|\bunimplemented|\bUnsupportedOperationException"
    r"|\b(?:your|rest of the) (?:code|implementation)|\bimplement (?:me|this)\b)"
)
_REFUSAL = re.compile(
    r"\b(?:i(?:['\u2019]m| am) (?:sorry|unable|not able)"
    r"|i (?:can(?:not|['\u2019]t)|won['\u2019]t|will not|must decline)"
    r"|as an ai\b|unable to (?:help|assist|provide|comply))",
    re.IGNORECASE,
)


def length_change(code: str, reference: str) -> float | None:
    """(lines of code - lines of reference) / lines of reference; None if either has no lines."""
    lines, reference_lines = len(code.splitlines()), len(reference.splitlines())
    return (lines - reference_lines) / reference_lines if lines and reference_lines else None


def length_score(code: str, reference: str | None) -> float:
    r"""Length term L of SecCoderX's reward: one of 1.0, 0.0, -0.5, -2.0.

    `EasyR1/examples/reward_function/seccoderx_align.py`, with its thresholds: blank and comment
    lines count.

    >>> [length_score("x\n" * lines, "y\n" * 10) for lines in (4, 5, 7, 8, 15, 16)]
    [-2.0, -0.5, -0.5, 1.0, 1.0, 0.0]
    """
    change = length_change(code, reference or "")
    if change is None:
        return 0.0
    if change < -0.5:
        return -2.0
    if change <= -0.3:
        return -0.5
    return 1.0 if change <= 0.5 else 0.0


def length_share(code: str, reference: str | None) -> float:
    r"""Length term L of the guarded reward, in [0, 1].

    1 where SecCoderX gives 1, from there falling linearly to 0 at half and at twice the lines of
    the reference. Without a reference: 1 for up to 400 lines, else 0.

    >>> [round(length_share("x\n" * lines, "y\n" * 10), 2) for lines in (5, 6, 7, 15, 18, 20)]
    [0.0, 0.5, 1.0, 1.0, 0.4, 0.0]
    """
    if not reference:
        return float(0 < len(code.splitlines()) <= MAX_LINES_WITHOUT_REFERENCE)
    change = length_change(code, reference)
    if change is None:
        return 0.0
    return max(0.0, min(1.0, (change + 0.5) / 0.2, (1.0 - change) / 0.5))


def declines(text: str) -> bool:
    """True for prose that refuses the task.

    >>> declines("I'm sorry, but I can't help with that.")
    True
    """
    return _REFUSAL.search(text) is not None


def is_stub(root: tree_sitter.Node, language: Language, reference: str | None = None) -> bool:
    r"""True for the syntax tree of code that only looks like an answer.

    That is code whose functions are all hollow (without functions: no top-level statement does
    work), or code with a hollow function that is not hollow in the reference. A hollow function is
    empty, or only has `pass`, a docstring, a TODO, "not implemented", an apology, or statements
    that neither call anything nor use a parameter (`return True`). If the reference is hollow, no
    code is a stub.

    >>> is_stub(parse("def add(a, b):\n    raise NotImplementedError", "python"), "python")
    True
    >>> is_stub(parse("def add(a, b):\n    return a + b", "python"), "python")
    False
    """
    expected = _hollow_in_reference(reference, language) if reference is not None else {}
    if expected is None:
        return False
    found = _hollow_by_name(root)
    return _is_hollow_program(root, found) or any(
        is_hollow and not expected.get(name, True) for name, is_hollow in found.items() if name
    )


@lru_cache(maxsize=256)  # the completions of a rollout group share their reference
def _hollow_in_reference(reference: str, language: Language) -> dict[str, bool] | None:
    """Which functions of the reference are hollow, by name; None if all of it is."""
    root = parse(reference, language)
    hollow_by_name = _hollow_by_name(root)
    return None if _is_hollow_program(root, hollow_by_name) else hollow_by_name


def _hollow_by_name(root: tree_sitter.Node) -> dict[str, bool]:
    """For each function name ("" for anonymous ones): whether all functions of it are hollow."""
    hollow: dict[str, bool] = {}
    for node in walk(root):
        body = node.child_by_field_name("body") if node.type in _FUNCTION_TYPES else None
        if body is not None:
            name = _function_name(node)
            hollow[name] = hollow.get(name, True) and _is_hollow_function(node, body)
    return hollow


def _is_hollow_program(root: tree_sitter.Node, hollow_by_name: dict[str, bool]) -> bool:
    if hollow_by_name:
        return all(hollow_by_name.values())
    return not any(
        _TOP_LEVEL_WORK_TYPE.search(node.type)
        for statement in root.named_children
        if not _is_idle(statement)
        for node in walk(statement)
    )


def _is_hollow_function(function: tree_sitter.Node, body: tree_sitter.Node) -> bool:
    header = [node for node in walk(function) if node.end_byte <= body.start_byte]
    if any(node.type == "field_initializer" for node in header):
        return False  # a C++ constructor can do its work before the body
    parameters = _names(header) - {(function.child_by_field_name("name") or function).text}
    is_block = body.type.endswith(("block", "body", "compound_statement"))
    for statement in body.named_children if is_block else [body]:
        nodes = list(walk(statement))
        names = _names(nodes)
        if names & parameters:
            return False
        if _is_idle(statement) or statement.type in _RAISE_TYPES:
            continue
        if any(_WORK_TYPE.search(node.type) for node in nodes) or (names and not parameters):
            return False
    return True


def _names(nodes: Iterable[tree_sitter.Node]) -> set[bytes | None]:
    return {node.text for node in nodes if node.type.endswith(("identifier", "identifier_pattern"))}


def _function_name(function: tree_sitter.Node) -> str:
    """Name of the function, or of the variable it is assigned to; "" if anonymous."""
    node = function
    while (declarator := node.child_by_field_name("declarator")) is not None:  # c, cpp
        node = declarator
    if node is function:
        parent = function.parent
        is_assigned = parent is not None and parent.type == "variable_declarator"
        named = (parent if is_assigned else function) or function
        name = named.child_by_field_name("name")
        if name is None:
            return ""
        node = name
    return (node.text or b"").decode("utf-8", "replace")


def _is_idle(statement: tree_sitter.Node) -> bool:
    """True for a statement that does nothing or only says that something is missing."""
    if is_comment(statement) or is_docstring(statement) or statement.type in _EMPTY_TYPES:
        return True
    text = (statement.text or b"").decode("utf-8", "replace")
    return statement.type in _MESSAGE_TYPES and any(
        pattern.search(text) for pattern in (_EXCUSE, _REFUSAL)
    )
