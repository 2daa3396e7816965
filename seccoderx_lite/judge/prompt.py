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
from typing import Literal

from seccoderx_lite.core.prompt_texts import neutralise, prompt_text, without_control_tokens
from seccoderx_lite.core.records import Language, VerdictLabel
from seccoderx_lite.core.syntax import strip_comments

MAX_CODE_CHARS = 24_000
"""About 8,000 tokens: what is longer is cut for the judge."""

VerdictForm = Literal["reason", "direct"]
"""How a verdict is asked for: reasoning before it, or the verdict alone."""

_JUDGE_TEMPLATE = prompt_text("judge/prompt")
_VERDICT_FORMS: dict[VerdictForm, str] = {
    "reason": "Reason in <think>...</think>, then give the verdict.",
    "direct": "Give the verdict alone.",
}

_ANSWER_BLOCK = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_VERDICT = re.compile(r"(?P<no>not[ _-]|non-)?vulnerable(?:\s*;\s*\[[^\]]*\])?", re.IGNORECASE)
_JUDGE_ANSWER = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


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
    return f"<think>\n{without_control_tokens(reasoning).strip()}\n</think>\n{answer}"


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
