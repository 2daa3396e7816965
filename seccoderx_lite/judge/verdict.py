"""The judge's answer: how it is written to train a judge, and how its verdict is parsed."""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import TypeAdapter

from seccoderx_lite.core.prompt_texts import without_control_tokens
from seccoderx_lite.core.records import Json, Verdict, VerdictLabel

VerdictForm = Literal["reason", "direct"]
"""What the prompt asks for: reasoning and a verdict, or a verdict only."""

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
_STORED = TypeAdapter(Verdict)
_JUDGE_ANSWER = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


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


def stored_verdict(data: Mapping[str, Json]) -> Verdict:
    """Return a verdict that was stored as JSON, by the names of its fields.

    Raises:
        ValueError: the data are not those of a verdict.
    """
    return _STORED.validate_python(data)


def has_judge_format(completion: str, form: VerdictForm = "reason") -> bool:
    """True if the completion is one think block, then one answer block, and nothing else.

    The format term of the judge's training reward, exactly as in SecCoderX
    (`EasyR1/examples/reward_function/seccoder_rm.py`): even a trailing line break violates it. The
    form `direct` has only the answer block.
    """
    pattern = _JUDGE_ANSWER if form == "reason" else _ANSWER_BLOCK
    return pattern.fullmatch(completion) is not None
