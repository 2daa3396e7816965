"""Computes CodeBLEU in a process of its own: one JSON request per line in, one JSON reply out.

The data-flow part of the package `codebleu` depends on the order of sets of strings, which differs
between Python processes by up to 0.02 of the score. `rewards.codebleu` starts this file with
PYTHONHASHSEED=0, so that equal code has an equal score in every process. It imports nothing of this
package: it runs as a script.
"""

import importlib
import json
import logging
import sys
from typing import Any


def reply_to(request: dict[str, Any]) -> dict[str, Any]:
    """Return the score of a request, or the error that codebleu raised."""
    try:
        codebleu = importlib.import_module("codebleu")
        scores = codebleu.calc_codebleu(
            [request["reference"]],
            [request["code"]],
            lang=request["language"],
            weights=tuple(request["weights"]),
        )
        return {"score": float(scores["codebleu"])}
    except Exception as error:  # codebleu's parsers raise all kinds of errors
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    logging.disable()  # codebleu warns of every reference without data flow
    for line in sys.stdin:
        print(json.dumps(reply_to(json.loads(line))), flush=True)
