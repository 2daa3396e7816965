"""A completion taken apart once, for everything that looks at its code.

The reward, the judge, the tests and the alarms all ask about the same block of code. Each question
is answered once per completion: the block at once, the syntax tree and what follows from it when
they are first asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import tree_sitter

from seccoderx_lite.core.code_blocks import AnswerCode, code_of_answer, extract_block
from seccoderx_lite.core.numbers import finite
from seccoderx_lite.core.programs import parses
from seccoderx_lite.core.records import Language, Task, TestResult, Verdict
from seccoderx_lite.core.required_code import asked_by
from seccoderx_lite.core.syntax import parse
from seccoderx_lite.rewards.shape import declines, is_stub, length_change


@dataclass(frozen=True)  # no slots: cached properties live in the instance's __dict__
class ParsedAnswer:
    """A completion, its code, and what the code alone says."""

    completion: str
    language: Language
    reference: str | None
    """Code of the task's reference completion; excuses what it lacks itself, see `is_stub`."""
    found: AnswerCode
    """Its code and where that was, the same as in evaluation; see `core.code_blocks`."""

    @property
    def code(self) -> str:
        """The code, "" for an answer without any."""
        return self.found.code or ""

    @property
    def is_truncated(self) -> bool:
        """True when the completion ended inside its block, or before it."""
        return self.found.form in ("unclosed", "unfinished")

    @cached_property
    def tree(self) -> tree_sitter.Node:
        """Root of the code's syntax tree."""
        return parse(self.code, self.language)

    @cached_property
    def parses(self) -> bool:
        """True for code that is grammatical in its language."""
        return parses(self.code, self.language, self.tree)

    @cached_property
    def is_stub(self) -> bool:
        """True for code that only looks like an answer, or prose that declines to give one."""
        if self.found.code is None:  # an empty block is a stub, prose is not
            is_empty = extract_block(self.completion, self.language) is not None
            return is_empty or declines(self.completion)
        return is_stub(self.tree, self.language, self.reference)

    @cached_property
    def is_real_code(self) -> bool:
        """True for a closed block of code that parses and is not a stub."""
        return self.found.form == "block" and self.parses and not self.is_stub

    @property
    def length_change(self) -> float | None:
        """`length_change` against the reference; None without code or reference."""
        return length_change(self.code, self.reference or "")


def parse_answer(completion: str, task: Task) -> ParsedAnswer:
    r"""Take a completion of the task apart.

    >>> task = Task("1", "Add.", "python")
    >>> parse_answer("```python\ndef add(a, b):\n    return a + b\n```", task).is_real_code
    True
    >>> parse_answer("```python\npass\n```", task).is_real_code
    False
    """
    found = code_of_answer(completion, task.language, asked_by(task.tests))
    return ParsedAnswer(completion, task.language, task.reference, found)


@dataclass(frozen=True, slots=True)
class ScoredCompletion:
    """A completion with every reward part; `reward` is None when it could not be scored."""

    answer: ParsedAnswer
    reward: float | None
    parts: Mapping[str, float | None]
    verdict: Verdict | None = None
    tests: TestResult | None = None

    def __post_init__(self) -> None:
        """Leave a completion unscored whose reward is not a number."""
        object.__setattr__(self, "reward", finite(self.reward))
        parts = {name: finite(value) for name, value in self.parts.items()}
        object.__setattr__(self, "parts", parts)
