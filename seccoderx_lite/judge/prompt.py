"""The judge's prompt and the parser of its verdicts.

Rendering and parsing are in one file, so that what the prompt asks for is what the parser reads.

The policy writes the code, so it could try to address the judge in it. `render_judge_prompt`
removes comments and breaks up control tokens and fences that would end the code block. It keeps
identifiers and strings, because without them it would be other code.
"""

import re
from collections.abc import Sequence
from typing import Literal

from seccoderx_lite.core.prompt_texts import neutralise, prompt_text, without_control_tokens
from seccoderx_lite.core.records import Language, VerdictLabel
from seccoderx_lite.core.syntax import strip_comments

MAX_CODE_CHARS = 24_000
"""About 8,000 tokens; longer code is cut."""

VerdictForm = Literal["reason", "direct"]
"""What the prompt asks for: reasoning and a verdict, or a verdict only."""

_JUDGE_TEMPLATE = prompt_text("judge/prompt")
_VERDICT_FORMS: dict[VerdictForm, str] = {
    "reason": "Reason in <think>...</think>, then give the verdict.",
    "direct": "Give the verdict alone.",
}

_ANSWER_BLOCK = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_OPEN_ANSWER = re.compile(r"<answer>((?:(?!</?answer>).)*)\Z", re.DOTALL | re.IGNORECASE)
_VERDICT = re.compile(
    r"""(?:[^\w?]|_)*
    (?: (?:(?:the|my|final|overall)\W+){0,2}
        (?:verdict|answer|label|conclusion|classification|result) \W*? (?:is\b)? [^\w?]+
      | (?:the|this)\s+(?:given\s+)?(?:code|function|program|snippet)\s+is\s+ )?
    (?P<no>not[ _-]|non-)?vulnerable
    (?: \s*;\s*\[[^\]]*\]
      | [^\w?]+ (?:(?:to|with|because\s+of|due\s+to|type|weakness)[^\w?]+)? CWE[-_ ]?\d+
        (?:(?!vulnerab|\bnot\b|\bno\b|\bsafe|\bsecure).)* )?
    (?:[^\w?]|_)*""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
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
    r"""The judge's prompt for one piece of code, without the coding task, as in SecCoderX.

    Everything that does not depend on the code comes first, so that prompts about the same
    weaknesses have a common prefix: see `prompt_prefix`.

    Args:
        code: Untrusted code.
        language: Its language, also the label of its fence.
        cwe: (id, name, description) of each weakness to look for; empty for any weakness.
        form: Ask for reasoning and a verdict, or for a verdict only.
        strip_comments: Remove comments, which could address the judge.
        max_code_chars: Longer code is cut, with a line that says so. The verdict then covers only
            part of the code: see `is_cut_for_judge`.

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


def prompt_prefix(language: Language, cwe: Sequence[tuple[str, str, str]]) -> str:
    """The common prefix of all judge prompts for this language and these weaknesses."""
    head = _JUDGE_TEMPLATE[: _JUDGE_TEMPLATE.index("{code}")]
    return head.format(language=language, weaknesses=_weaknesses(cwe))


def _weaknesses(cwe: Sequence[tuple[str, str, str]]) -> str:
    entries = (f"Type: {id_}: {name}\nDescription: {text}" for id_, name, text in cwe)
    return "\n\n".join(entries) or "Any weakness."


def is_cut_for_judge(
    code: str,
    language: Language,
    *,
    strip_comments: bool = True,
    max_code_chars: int = MAX_CODE_CHARS,
) -> bool:
    """True if `render_judge_prompt` with the same arguments shows only part of the code."""
    return len(_code_for_judge(code, language, strip_comments)) > max_code_chars


def _code_for_judge(code: str, language: Language, is_stripped: bool) -> str:
    return (strip_comments(code, language) if is_stripped else code).strip("\r\n")


def judge_answer(is_vulnerable: bool, reasoning: str | None = None) -> str:
    r"""The completion that a judge is trained to give; `parse_verdict` is the inverse.

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
    """Verdict in the last answer block; "unclear" if the block has anything but a verdict.

    Ignores case, and also reads the labels of the published datasets. A model that was never
    trained on this form may add punctuation, quotes, emphasis, "Verdict:" before the verdict and a
    CWE after it, or stop before the closing tag.

    >>> parse_verdict("<think>...</think><answer>Not Vulnerable;[]</answer>")
    'safe'
    >>> parse_verdict("<answer>**Verdict: Vulnerable** (CWE-78).</answer>")
    'vulnerable'
    >>> parse_verdict("<answer>not sure</answer>")
    'unclear'
    """
    answers = _ANSWER_BLOCK.findall(completion) or _OPEN_ANSWER.findall(completion)
    match = _VERDICT.fullmatch(answers[-1].strip()) if answers else None
    if match is None:
        return "unclear"
    return "safe" if match["no"] else "vulnerable"


def has_judge_format(completion: str, form: VerdictForm = "reason") -> bool:
    """True if the completion is one think block, then one answer block, and nothing else.

    The format term of the judge's training reward, exactly as in SecCoderX
    (`EasyR1/examples/reward_function/seccoder_rm.py`): even a trailing line break violates it. The
    form `direct` has only the answer block.
    """
    pattern = _JUDGE_ANSWER if form == "reason" else _ANSWER_BLOCK
    return pattern.fullmatch(completion) is not None
