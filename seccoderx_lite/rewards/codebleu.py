"""The exact CodeBLEU of SecCoderX's reward, by the `codebleu` package (extra `[codebleu]`).

Only `formula: seccoderx` needs it; without the package that formula is refused, never approximated.
Everything else uses the fast three-part score of `rewards.similarity`.
"""

import importlib
import logging
from functools import cache

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.records import LANGUAGES, Language

WEIGHTS = (0.1, 0.1, 0.7, 0.1)
"""N-gram, weighted n-gram, syntax tree, data flow."""

_PROBE = "x = 1 ;"


@cache
def require_codebleu() -> None:
    """Check that CodeBLEU works here in each language.

    `codebleu_score` returns 0.0 on any error, which would hide a grammar that is missing or too new
    for the tree-sitter that codebleu pins.

    Raises:
        RecipeError: CodeBLEU does not work here; the message says what to install.
    """
    try:
        for language in LANGUAGES:
            _calculate(_PROBE, _PROBE, language)
    except Exception as error:
        raise RecipeError(
            "formula: seccoderx needs the package codebleu 0.7.0, which does not work here "
            f"({type(error).__name__}: {error}). "
            f"Install it with: {install_command('codebleu')} or use formula: guarded"
        ) from error


def codebleu_score(code: str, reference: str, language: Language) -> float:
    """CodeBLEU of the code against its reference, in [0, 1], with SecCoderX's weights.

    As in SecCoderX, code that makes codebleu fail scores 0.0, and a reference without data flow
    counts as a full data-flow match.

    Raises:
        RecipeError: CodeBLEU does not work here at all.
    """
    require_codebleu()
    try:
        return _calculate(code, reference, language)
    except Exception:  # codebleu's parsers raise all kinds of errors; SecCoderX scores them 0
        return 0.0


def _calculate(code: str, reference: str, language: Language) -> float:
    codebleu = importlib.import_module("codebleu")
    logging.getLogger().disabled, was_disabled = True, logging.getLogger().disabled
    try:  # codebleu warns on the root logger about every reference without data flow
        scores = codebleu.calc_codebleu([reference], [code], lang=language, weights=WEIGHTS)
    finally:
        logging.getLogger().disabled = was_disabled
    return float(scores["codebleu"])
