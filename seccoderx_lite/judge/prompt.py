"""Prompts out, answers in: code from a completion, the judge's prompt, and its verdict.

What a prompt asks for and what is read from the reply stand side by side here, so that they cannot
drift apart. There is one extractor of code and one parser of verdicts, used everywhere.
(`rewards.composite` keeps the original's own regular expression for the formula of that name.)

The judge reads what the policy wrote, so `render_judge_prompt` takes the ways to talk to it out of
the code: comments, fences that would end the code block, and control tokens. It does not hide
identifiers and strings: the code would no longer be the code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from seccoderx_lite.core.records import Language, VerdictLabel
from seccoderx_lite.core.syntax import strip_comments

MAX_CODE_CHARS = 24_000
"""About 8,000 tokens: what is longer is cut for the judge."""


def prompt_text(name: str) -> str:
    """Return the text of a prompt: "judge/prompt" is the file `judge/prompt.txt` of the package."""
    return (files("seccoderx_lite") / f"{name}.txt").read_text(encoding="utf-8")


VerdictForm = Literal["reason", "direct"]
"""How a verdict is asked for: reasoning before it, or the verdict alone."""

_JUDGE_TEMPLATE = prompt_text("judge/prompt")
_VERDICT_FORMS: dict[VerdictForm, str] = {
    "reason": "Reason in <think>...</think>, then give the verdict.",
    "direct": "Give the verdict alone.",
}

_THINK_BLOCK = re.compile(r"\s*<think>(?:.*?</think>|.*\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THINKING = re.compile(r"^[ \t]*</think>[ \t]*$", re.MULTILINE | re.IGNORECASE)
_OPENING_FENCE = re.compile(
    r"""
    (?: ^(?P<indent>[ \t]*) (?P<fence>`{3,}(?=[^`\n]*$) | ~{3,}) [ \t]* (?P<info>[^\n]*) (?:\n|\Z)
      | (?<=[ \t:])(?P<inline_fence>`{3,}) [ \t]* (?P<inline_label>[\w+\#.-]*) [ \t]*\n )""",
    re.MULTILINE | re.VERBOSE,
)

_CONTROL_TOKEN = re.compile(
    r"""
    <(?=[|\uff5c])  # <|im_end|>, and the wide bars of DeepSeek
    | (?<=[|\uff5c])(?=>)
    | <(?=/?\s*(?:think|answer|tool_call|tool_response|s|bos|eos|pad|unk|endoftext
        |start_of_turn|end_of_turn|file_sep|repo_name|fim_\w+)\s*>)
    | <(?=<\s*/?\s*SYS\s*>>)
    | \[(?=\s*/?\s*(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\s*\])""",
    re.IGNORECASE | re.VERBOSE,
)

_ANSWER_BLOCK = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_VERDICT = re.compile(r"(?P<no>not[ _-]|non-)?vulnerable(?:\s*;\s*\[[^\]]*\])?", re.IGNORECASE)
_JUDGE_ANSWER = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


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
    """First fenced code block of the answer, or None when there is none.

    Fences are read as in CommonMark 0.31 (section 4.5): backticks or tildes, three or more, closed
    by a line of at least as many; any label; an indented fence takes its indentation off the code.
    Beyond that, a fence may open at the end of a line of prose and close at the end of a line of
    code. A `<think>` block before the answer is not part of it.
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
    """The answer after a `<think>` block; the whole text where there is none."""
    answer = text
    while thinking := _THINK_BLOCK.match(answer):
        answer = answer[thinking.end() :]
    # Some chat templates open the think block in the prompt: only its end is in the completion.
    ending = _END_OF_THINKING.search(text) if answer is text else None
    return text[ending.end() :] if ending else answer


def render_judge_prompt(
    code: str,
    language: Language,
    cwe: Sequence[tuple[str, str, str]],
    *,
    form: VerdictForm = "reason",
    strip_comments: bool = True,
    max_code_chars: int = MAX_CODE_CHARS,
) -> str:
    r"""The judge's prompt for one piece of code; the coding task is not shown, as in the original.

    All that does not depend on the code stands before it, so that prompts about the same weaknesses
    begin alike: see `shared_prompt`.

    Args:
        code: What the policy or anyone else wrote; treated as hostile.
        language: Its language, also the label of its fence.
        cwe: (id, name, description) of each weakness to look for; empty for any weakness.
        form: Ask for reasoning and a verdict, or for the verdict alone.
        strip_comments: Leave comments out, so that they cannot argue with the judge.
        max_code_chars: Longer code is cut there, with a line that says so. A verdict about code
            that was cut is not about all of it: see `is_cut_for_judge`.

    >>> cwe = [("CWE-89", "SQL Injection", "Input becomes part of a query.")]
    >>> prompt = render_judge_prompt("db.run(q)  # safe!", "python", cwe)
    >>> print(*prompt.splitlines()[2:5], *prompt.splitlines()[11:14], sep="\n")
    Possible weaknesses:
    Type: CWE-89: SQL Injection
    Description: Input becomes part of a query.
    ```python
    db.run(q)
    ```
    """
    shown = _code_for_judge(code, language, strip_comments)
    if len(shown) > max_code_chars:
        cut = len(shown) - max_code_chars
        shown = f"{shown[:max_code_chars]}\n[{cut} more characters are not shown]"
    return _JUDGE_TEMPLATE.format(
        language=language,
        code=neutralise(shown),
        weaknesses=_weaknesses(cwe),
        form=_VERDICT_FORMS[form],
    ).rstrip()


def shared_prompt(language: Language, cwe: Sequence[tuple[str, str, str]]) -> str:
    """What every `render_judge_prompt` of this language and these weaknesses begins with."""
    head = _JUDGE_TEMPLATE[: _JUDGE_TEMPLATE.index("{code}")]
    return head.format(language=language, weaknesses=_weaknesses(cwe))


def _weaknesses(cwe: Sequence[tuple[str, str, str]]) -> str:
    told = (f"Type: {id_}: {name}\nDescription: {description}" for id_, name, description in cwe)
    return "\n\n".join(told) or "Any weakness."


def is_cut_for_judge(
    code: str,
    language: Language,
    *,
    strip_comments: bool = True,
    max_code_chars: int = MAX_CODE_CHARS,
) -> bool:
    """True when `render_judge_prompt` with the same arguments shows only a part of the code."""
    return len(_code_for_judge(code, language, strip_comments)) > max_code_chars


def _code_for_judge(code: str, language: Language, is_stripped: bool) -> str:
    return (strip_comments(code, language) if is_stripped else code).strip("\r\n")


def neutralise(text: str) -> str:
    """The text with fences and control tokens broken up by spaces, so that they have no effect.

    Covers the chat, tool and fill-in tokens of the Qwen, Llama, DeepSeek, Mistral, Gemma and
    StarCoder families, and the think and answer tags of `judge_answer`.

    >>> neutralise("```<|im_end|></answer>")
    '` ` `< |im_end| >< /answer>'
    """
    text = re.sub(r"`{3,}|~{3,}", lambda fence: " ".join(fence[0]), text)
    return _without_control_tokens(text)


def _without_control_tokens(text: str) -> str:
    return _CONTROL_TOKEN.sub(lambda opening: f"{opening[0]} ", text)


def judge_answer(is_vulnerable: bool, reasoning: str | None = None) -> str:
    r"""The completion that a judge is trained to give; `parse_verdict` reads it back.

    Without reasoning it is the answer to the form `direct`.

    >>> judge_answer(False, "The query is bound.")
    '<think>\nThe query is bound.\n</think>\n<answer>Not Vulnerable</answer>'
    >>> judge_answer(True)
    '<answer>Vulnerable</answer>'
    """
    verdict = "Vulnerable" if is_vulnerable else "Not Vulnerable"
    answer = f"<answer>{verdict}</answer>"
    if reasoning is None:
        return answer
    return f"<think>\n{_without_control_tokens(reasoning).strip()}\n</think>\n{answer}"


def parse_verdict(completion: str) -> VerdictLabel:
    """Verdict in the last answer block; "unclear" unless the block holds a verdict and only that.

    Case does not matter, and the label form of the published datasets is read too.

    >>> parse_verdict("<think>...</think><answer>Not Vulnerable;[]</answer>")
    'safe'
    >>> parse_verdict("<answer>not sure</answer>")
    'unclear'
    """
    answers = _ANSWER_BLOCK.findall(completion)
    match = _VERDICT.fullmatch(answers[-1].strip()) if answers else None
    if match is None:
        return "unclear"
    return "safe" if match["no"] else "vulnerable"


def has_judge_format(completion: str, form: VerdictForm = "reason") -> bool:
    """True when the completion is one think block, then one answer block, and nothing else.

    The format term of the judge's own training reward, exactly as in the original
    (`EasyR1/examples/reward_function/seccoder_rm.py`): a trailing line break breaks it. In the form
    `direct` the answer block stands alone.
    """
    pattern = _JUDGE_ANSWER if form == "reason" else _ANSWER_BLOCK
    return pattern.fullmatch(completion) is not None
