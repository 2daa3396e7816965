r"""From a completion to its code: one extractor for reward, evaluation, judge and `synth`.

Thinking is removed first (see `thinking`); what is left is the answer. **The rule:**

1.  Blocks are read as in CommonMark 0.31, section 4.5: three or more backticks or tildes, closed by
    a line with at least as many of them, indented by at most three spaces more than the opening.
    Also read: an opening at the end of a line of prose, a closing at the end of a line of code, a
    block inside a list or quotation. Where the code does not parse, the next fence is tried.
    Typographic spaces outside texts and comments become plain ones.
2.  Blocks are ranked by label and language: label of the task's language; label of a close relative
    (C and C++, TypeScript for JavaScript); no known label and a whole program; another label and a
    whole program; no known label. Other blocks are never the code.
3.  In the best rank that has it, the code is the last complete block: it defines every name that is
    asked for, or runs where a program is asked for, or, where nothing is known, defines something
    other than tests. Earlier blocks that define what it uses are put before it.
4.  If no block is complete, the code is all blocks of the best rank that define something, one
    after the other, provided that this is complete; else the last block of that rank that defines
    something; else the last one.

A first line that only names the language again, and a fence around another fence, are not part of
a block. Without a language, that of the first label with a supported one is taken, and what rule 4
would take from the end is taken from the start.

5.  **Where no block has code**, it is the first of these that has any (`code_of_answer`): the whole
    text, if it parses as a whole program; whole programs between tags (HTML, an artifact, a file),
    in `verbatim`, `lstlisting` and `minted` of LaTeX, and in indented blocks of Markdown; whole
    programs among the texts of an answer that is a JSON object.
6.  There is no code in bare code with prose around it, in single quotes or comments in place of
    fences, and between backticks within a line.

**Training and evaluation agree on the program**: `rewards.answers` uses rules 1 to 5 as well.
Only the format differs: `form` says where the program was, and the reward pays a closed block
only, while evaluation measures the program wherever it was and reports the shares of the forms.

**The program is loaded before it is tested**, as by HumanEval's and SecCodePLT's own harnesses: an
example call at module level that raises, or that ends the process, fails the answer. Evaluation
counts such answers with the status `load_error`. What is below `if __name__ == "__main__":` is not
run, except where tests ask for a program.

The reward formula `seccoderx` is the exception: it keeps SecCoderX's regular expression, see
`rewards.reward_formula`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from seccoderx_lite.core.fences import CodeBlock, fenced_blocks, plain_line_ends, unfenced
from seccoderx_lite.core.languages import label_language, language_of
from seccoderx_lite.core.marked_code import in_json, indented, marked_up
from seccoderx_lite.core.plain_spaces import with_plain_spaces
from seccoderx_lite.core.programs import Program, program_of
from seccoderx_lite.core.records import Language
from seccoderx_lite.core.required_code import ANYTHING, Asked
from seccoderx_lite.core.thinking import answer_of

__all__ = ["AnswerCode", "CodeBlock", "code_of_answer", "extract_block", "extract_code"]

CodeForm: TypeAlias = Literal["block", "unclosed", "bare", "none", "unfinished"]
"""Where the code of an answer was: a closed block, one without a closing fence, no block at all.
Or why there is none: the answer has no code, or ends inside its thinking."""

_RELATIVES: dict[str, str] = {"c": "cpp", "cpp": "c", "javascript": "typescript"}
_HOISTED = {
    "java": re.compile(r"^[ \t]*(?:package|import)\s[^\n;]*;[ \t]*\n?", re.MULTILINE),
    "go": re.compile(
        r"^(?:package\s+\w+|import\s*\([^)]*\)|import\s+[^\n(]+)[ \t]*\n?", re.MULTILINE
    ),
}
"""What must come before everything else when blocks are put together."""


@dataclass(frozen=True, slots=True)
class AnswerCode:
    """The code of an answer, and where it was."""

    code: str | None
    form: CodeForm


@dataclass(frozen=True, slots=True)
class _Candidate:
    block: CodeBlock
    rank: int
    program: Program | None
    """None for a language without a grammar."""

    def is_complete(self, asked: Asked) -> bool:
        program = self.program
        if program is None:
            return True
        if not program.parses:
            return False
        if asked.names:
            return asked.names <= program.defined
        if asked.is_program:
            return program.runs
        return program.has_definitions and not program.is_test


def extract_block(
    completion: str, language: str | None = None, asked: Asked = ANYTHING
) -> CodeBlock | None:
    """The block with the code of a completion, by the rule above; None without one.

    Args:
        completion: What the model wrote.
        language: The task's language; None takes that of the first label.
        asked: What the code must define or do, as far as it is known.
    """
    answer = answer_of(plain_line_ends(completion)).text
    blocks = fenced_blocks(answer, language_of(language or ""))
    if len(blocks) == 1 and (language is None or blocks[0].label_language in (None, language)):
        return blocks[0]
    return _choose(blocks, language, asked)


def extract_code(
    completion: str, language: str | None = None, asked: Asked = ANYTHING
) -> str | None:
    r"""Code of a completion ("" for an empty block), or None without a block.

    >>> extract_code("Sure:\n```python\nprint(1)\n```\nDone.")
    'print(1)'
    >>> extract_code("First:\n```sh\npip install x\n```\nThen:\n```py\nimport x\n```", "python")
    'import x'
    >>> extract_code("I cannot help with that.") is None
    True
    """
    block = extract_block(completion, language, asked)
    return block.code if block else None


def code_of_answer(completion: str, language: str | None, asked: Asked = ANYTHING) -> AnswerCode:
    r"""The code of an answer for measuring it: a text that is a whole program counts as well.

    In training only a closed block is paid; `form` tells the two apart.

    >>> code_of_answer("def add(a, b):\n    return a + b", "python").form
    'bare'
    >>> code_of_answer("Sure, here it is.", "python")
    AnswerCode(code=None, form='none')
    """
    block = extract_block(completion, language, asked)
    known = language_of(language or "")
    if block is not None and block.code.strip():
        marked = _json_code(block.code, known, asked)
        form: CodeForm = "block" if block.is_closed else "unclosed"
        return AnswerCode(marked, "bare") if marked else AnswerCode(block.code, form)
    answer = answer_of(plain_line_ends(completion))
    if known and (code := _bare_code(answer.text, block, known, asked)):
        return AnswerCode(code, "bare")
    is_cut = answer.is_unfinished or (block is not None and not block.is_closed)
    return AnswerCode(None, "unfinished" if is_cut else "none")


def _bare_code(
    answer: str, block: CodeBlock | None, language: Language, asked: Asked
) -> str | None:
    """The code of an answer in which no block has any."""
    text = with_plain_spaces(unfenced(answer), language)
    if text and block is None and program_of(text, language).is_whole:
        return text
    for blocks in (marked_up(answer), [] if block else indented(answer)):
        if found := _whole(blocks, language, asked):
            return found
    texts = [text, *(each.code for each in fenced_blocks(answer))]
    return next((code for text in texts if (code := _json_code(text, language, asked))), None)


def _json_code(text: str, language: Language | None, asked: Asked) -> str | None:
    return _whole(in_json(text), language, asked) if language else None


def _whole(blocks: Sequence[CodeBlock], language: Language, asked: Asked) -> str | None:
    """The code among blocks of which only whole programs count, unless they are labelled."""
    plain = [replace(each, code=with_plain_spaces(each.code, language)) for each in blocks]
    whole = [
        each
        for each in plain
        if each.label_language == language or program_of(each.code, language).is_whole
    ]
    chosen = _choose(whole, language, asked)
    return chosen.code if chosen and chosen.code.strip() else None


def _choose(blocks: Sequence[CodeBlock], language: str | None, asked: Asked) -> CodeBlock | None:
    place = 0 if language is None else -1
    if language is None:
        labels = [block.label_language for block in blocks]
        language = next((label for label in labels if language_of(label or "")), None)
        if language is None:
            return blocks[0] if blocks else None
    ranked = [_ranked(block, language) for block in blocks]
    candidates = [candidate for candidate in ranked if candidate is not None]
    for rank in sorted({candidate.rank for candidate in candidates}):
        same = [candidate for candidate in candidates if candidate.rank == rank]
        if found := _complete(same, asked, language):
            return found
    if not candidates:
        return None
    best = min(candidate.rank for candidate in candidates)
    same = [candidate for candidate in candidates if candidate.rank == best]
    defining = [c for c in same if c.program is None or c.program.has_definitions]
    return (defining or same)[place].block


def _ranked(block: CodeBlock, language: str) -> _Candidate | None:
    known = language_of(language)
    program = program_of(block.code, known) if known else None
    label = block.label_language
    if label == (known or label_language(language)):
        return _Candidate(block, 0, program)
    if label is not None and _RELATIVES.get(known or "") == label:
        return _Candidate(block, 1, program)
    if program is not None and program.is_whole:
        return _Candidate(block, 2 if label is None else 3, program)
    return _Candidate(block, 4, program) if label is None else None


def _complete(candidates: Sequence[_Candidate], asked: Asked, language: str) -> CodeBlock | None:
    """The last complete block with the earlier blocks that it needs, or all that define something.

    None if neither is complete.
    """
    complete = [place for place, each in enumerate(candidates) if each.is_complete(asked)]
    closed = [place for place in complete if candidates[place].block.is_closed]
    if complete:
        needs = {place: _needed(candidates, place) for place in closed or complete}
        if asked.is_program:  # what only calls an earlier program is an example of its use
            alone = [place for place, needed in needs.items() if len(needed) == 1]
            needs = {place: needs[place] for place in alone} or needs
        return _joined([candidates[place].block for place in needs[max(needs)]], language)
    parts = [each.block for each in candidates if each.program and _adds(each.program)]
    whole = _joined(parts, language) if len(parts) > 1 else None
    joined = _ranked(whole, language) if whole else None
    return whole if joined and joined.is_complete(asked) else None


def _adds(program: Program) -> bool:
    return program.parses and bool(program.defined or program.imported or program.runs)


def _needed(candidates: Sequence[_Candidate], place: int) -> list[int]:
    """A block and the earlier ones that define what it uses and does not define, in order."""
    needed = [place]
    program = candidates[place].program
    missing = set(program.used) if program else set()
    for earlier in range(place - 1, -1, -1):
        other = candidates[earlier].program
        if other is None or not other.parses or not (missing & (other.defined | other.imported)):
            continue
        needed.insert(0, earlier)
        missing = (missing - other.defined - other.imported) | other.used
    return needed


def _joined(blocks: Sequence[CodeBlock], language: str) -> CodeBlock:
    if len(blocks) == 1:
        return blocks[0]
    codes = [block.code for block in blocks]
    if hoisted := _HOISTED.get(language):
        heads = dict.fromkeys(m[0].strip() for code in codes for m in hoisted.finditer(code))
        packages = [head for head in heads if head.startswith("package")][:1]
        imports = [head for head in heads if not head.startswith("package")]
        codes = ["\n".join([*packages, *imports]), *(hoisted.sub("", code) for code in codes)]
    code = "\n\n".join(code.strip("\n") for code in codes if code.strip())
    return CodeBlock(code, blocks[-1].info, all(block.is_closed for block in blocks))
