"""Extracts the code from a completion.

Everything uses this extractor, except the reward formula `seccoderx`: it keeps SecCoderX's regular
expression, see `rewards.composite`.
"""

import re
from dataclasses import dataclass

_THINK_BLOCK = re.compile(r"\s*<think>(?:.*?</think>|.*\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THINKING = re.compile(r"^[ \t]*</think>[ \t]*$", re.MULTILINE | re.IGNORECASE)
_OPENING_FENCE = re.compile(
    r"""
    (?: ^(?P<indent>[ \t]*) (?P<fence>`{3,}(?=[^`\n]*$) | ~{3,}) [ \t]* (?P<info>[^\n]*) (?:\n|\Z)
      | (?<=[ \t:])(?P<inline_fence>`{3,}) [ \t]* (?P<inline_label>[\w+\#.-]*) [ \t]*\n )""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """The first fenced block of a completion."""

    code: str
    """Without the line break before the closing fence; "" for an empty block."""
    language_label: str
    """First word after the opening fence, as written: "c++", "Python", or ""."""
    is_closed: bool
    """False when the completion ended inside the block; `code` is then the rest of it."""


def extract_block(completion: str) -> CodeBlock | None:
    """First fenced code block of the answer, or None without one.

    Fences follow CommonMark 0.31 (section 4.5): three or more backticks or tildes with any label,
    closed by a line with at least as many; the indentation of the fence is removed from the code.
    In addition, a fence may open at the end of a line of prose and close at the end of a line of
    code. A `<think>` block before the answer is skipped.
    """
    answer = without_thinking(completion.replace("\r\n", "\n"))
    opening = _OPENING_FENCE.search(answer)
    if opening is None:
        return None
    fence = opening["fence"] or opening["inline_fence"]
    label = (opening["info"] or opening["inline_label"] or "").split(maxsplit=1)[:1]
    body = answer[opening.end() :]
    run = f"{re.escape(fence[0])}{{{len(fence)},}}"
    closing = re.search(rf"(?:(?:\A|\n)[ \t]*)?{run}[ \t]*(?=\n|\Z)", body)
    code = body[: closing.start()] if closing else body
    indent = opening["indent"]
    if indent:
        code = re.sub(rf"^[ \t]{{1,{len(indent)}}}", "", code, flags=re.MULTILINE)
    return CodeBlock(code, "".join(label), is_closed=closing is not None)


def extract_code(completion: str) -> str | None:
    r"""Code of the first fenced block ("" for an empty one), or None without a block.

    >>> extract_code("Sure:\n```python\nprint(1)\n```\nDone.")
    'print(1)'
    >>> extract_code("I cannot help with that.") is None
    True
    """
    block = extract_block(completion)
    return block.code if block else None


def without_thinking(text: str) -> str:
    """The answer after its `<think>` blocks; the whole text if there are none."""
    answer = text
    while thinking := _THINK_BLOCK.match(answer):
        answer = answer[thinking.end() :]
    # Some chat templates open the think block in the prompt: the completion has only its end.
    think_end = _END_OF_THINKING.search(text) if answer is text else None
    return text[think_end.end() :] if think_end else answer
