"""The exact CodeBLEU of the original reward, by the `codebleu` package (extra `[codebleu]`).

Only `formula: seccoderx` needs it, and nothing stands in for it: without the package that formula
is refused. `rewards.similarity` is the fast three-part score that everything else uses.
"""

import importlib
import logging
from functools import cache

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import LANGUAGES, Language

WEIGHTS = (0.1, 0.1, 0.7, 0.1)
"""N-gram, weighted n-gram, syntax tree, data flow."""

_PROBE = "x = 1 ;"


@cache
def require_codebleu() -> None:
    """Checks that CodeBLEU works here, in each language.

    A score of 0.0 for an error (`codebleu_score`) would otherwise hide a grammar that is missing,
    or too new for the tree-sitter that codebleu pins.

    Raises:
        RecipeError: It does not; the message says what to install.
    """
    try:
        for language in LANGUAGES:
            _calculate(_PROBE, _PROBE, language)
    except Exception as error:
        raise RecipeError(
            "formula: seccoderx needs the exact CodeBLEU of the package codebleu 0.7.0, which does "
            f"not work here ({type(error).__name__}: {error}). "
            "Install it with: pip install 'seccoderx-lite[codebleu]', or use formula: guarded"
        ) from error


def codebleu_score(code: str, reference: str, language: Language) -> float:
    """CodeBLEU of the code against its reference, in [0, 1], with the weights of the original.

    As in the original, code that makes codebleu fail scores 0.0, and a reference without data flow
    counts as full data-flow match.

    Raises:
        RecipeError: CodeBLEU does not work here at all.
    """
    require_codebleu()
    try:
        return _calculate(code, reference, language)
    except Exception:  # the package raises whatever its parsers meet; the original scores that 0
        return 0.0


def _calculate(code: str, reference: str, language: Language) -> float:
    codebleu = importlib.import_module("codebleu")
    logging.getLogger().disabled, was_disabled = True, logging.getLogger().disabled
    try:  # it warns, on the root logger, of every reference without data flow
        scores = codebleu.calc_codebleu([reference], [code], lang=language, weights=WEIGHTS)
    finally:
        logging.getLogger().disabled = was_disabled
    return float(scores["codebleu"])
