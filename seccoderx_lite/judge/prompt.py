"""The judge's prompt; `judge.verdict` parses what it asks for.

The policy writes the code, so it could try to address the judge in it. `render_judge_prompt`
removes comments and breaks up control tokens and fences that would end the code block. It keeps
identifiers and strings, because without them it would be other code.
"""

from collections.abc import Sequence

from seccoderx_lite.core.prompt_texts import neutralise, prompt_text
from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import strip_comments
from seccoderx_lite.judge.verdict import VerdictForm

MAX_CODE_CHARS = 24_000
"""About 8,000 tokens; longer code is cut."""
FORMS: tuple[VerdictForm, ...] = ("reason", "direct")
"""In the order of the last lines of prompt.txt."""


def _templates() -> dict[VerdictForm, str]:
    """The text of prompt.txt with one of its last lines, by the form of the verdict."""
    text = prompt_text("judge/prompt")
    body, endings = text[: text.index("[reason]")], text[text.index("[reason]") :].splitlines()
    return {
        form: body + line.removeprefix(f"[{form}] ")
        for form, line in zip(FORMS, endings, strict=True)
    }


_TEMPLATES = _templates()


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
    return (
        _TEMPLATES[form]
        .format(language=language, code=neutralise(shown), weaknesses=_weaknesses(cwe))
        .rstrip()
    )


def prompt_prefix(language: Language, cwe: Sequence[tuple[str, str, str]]) -> str:
    """The common prefix of all judge prompts for this language and these weaknesses."""
    head = _TEMPLATES["reason"].partition("{code}")[0]
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
