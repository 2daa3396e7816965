"""The exact CodeBLEU of SecCoderX's reward, by the `codebleu` package (extra `[codebleu]`).

Only `formula: seccoderx` needs it; without the package that formula is refused, never approximated.
Everything else uses the fast three-part score of `rewards.similarity`.

The package runs in a helper process with a fixed hash seed, because its data-flow part depends on
the seed: see `codebleu_worker`. So a resumed run and every worker pay the same for equal code.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.numbers import finite
from seccoderx_lite.core.records import LANGUAGES, Language

logger = logging.getLogger(__name__)

WEIGHTS = (0.1, 0.1, 0.7, 0.1)
"""N-gram, weighted n-gram, syntax tree, data flow."""

_PROBE = "x = 1 ;"
_WORKER = Path(__file__).with_name("codebleu_worker.py")


class CodebleuError(Exception):
    """The package raised an error."""


class CodebleuEnded(CodebleuError):
    """The package's process ended or could not be started, so it says nothing about the code."""


class _Helper:
    """The helper process; started when first asked, and again in a forked process or if it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, request: dict[str, Any]) -> float:
        """Raises CodebleuError if there is no score."""
        with self._lock:
            try:
                process = self._running()
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = ""
        if not line.endswith("\n"):
            raise CodebleuEnded("the process of codebleu ended")
        reply = json.loads(line)
        if "error" in reply:
            raise CodebleuError(reply["error"])
        return float(reply["score"])

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONHASHSEED": "0"},
                text=True,
            )
        return self._process


_HELPER = _Helper()


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
    except CodebleuError as error:
        raise RecipeError(
            "formula: seccoderx needs the package codebleu 0.7.0, which does not work here "
            f"({error}). "
            f"Install it with: {install_command('codebleu')} or use formula: guarded"
        ) from error


def codebleu_score(code: str, reference: str, language: Language) -> float | None:
    """CodeBLEU of the code against its reference, in [0, 1], with SecCoderX's weights.

    As in SecCoderX, code that makes codebleu raise an error scores 0.0, and a reference without
    data flow counts as a full data-flow match. None if its process ended, or the score is no
    number.

    Raises:
        RecipeError: CodeBLEU does not work here at all.
    """
    require_codebleu()
    try:
        return finite(_calculate(code, reference, language))
    except CodebleuEnded as error:
        logger.warning("unscored: %s", error)
        return None
    except CodebleuError:  # SecCoderX scores it 0
        return 0.0


def _calculate(code: str, reference: str, language: Language) -> float:
    return _HELPER.ask(
        {"code": code, "reference": reference, "language": language, "weights": WEIGHTS}
    )
