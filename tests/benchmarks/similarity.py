"""Compare the speed of our similarity with the codebleu package on the same pairs.

    python tests/benchmarks/similarity.py [--group-size 8] [--pairs FILE]

Prints CPU time per pair. In training a reference is compared with a whole rollout group: "first" is
the time for the first completion, which includes analysing the reference, "later" for the others.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from helpers.similarity_pairs import similarity_pairs

from seccoderx_lite.core.records import LANGUAGES, Language
from seccoderx_lite.rewards import similarity as ours
from seccoderx_lite.rewards.codebleu import WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument(
        "--pairs", type=Path, help="JSON lines with language, code, reference: time these instead"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.pairs:
        rows = [json.loads(line) for line in arguments.pairs.read_text().splitlines()]
        sets = {"given": [(row["language"], row["code"], row["reference"]) for row in rows]}
    else:
        sets = {"20 lines": similarity_pairs(), "100 lines": similarity_pairs(is_joined=True)}
    for name, pairs in sets.items():
        for language in LANGUAGES:
            chosen = [(code, ref) for lang, code, ref in pairs if lang == language and code.strip()]
            if chosen:
                print(f"{name:9} {language:10}", _compare(chosen, language, arguments.group_size))


def _compare(pairs: list[tuple[str, str]], language: Language, group_size: int) -> str:
    from codebleu import calc_codebleu

    def codebleu(code: str, reference: str) -> None:
        calc_codebleu([reference], [code], lang=language, weights=WEIGHTS)

    def first(code: str, reference: str) -> None:
        ours.analyse_reference.cache_clear()
        ours.similarity_parts(code, reference, language)

    def later(code: str, reference: str) -> None:
        ours.similarity_parts(code, reference, language)

    codebleu_ms, first_ms, later_ms = (_cpu_ms(f, pairs) for f in (codebleu, first, later))
    group_ms = (first_ms + (group_size - 1) * later_ms) / group_size
    return (
        f"{len(pairs):4} pairs: codebleu {codebleu_ms:6.2f} ms; ours {group_ms:5.2f} ms "
        f"in a group, {codebleu_ms / group_ms:4.1f} times faster "
        f"(first {codebleu_ms / first_ms:4.1f}, later {codebleu_ms / later_ms:4.1f})"
    )


def _cpu_ms(function: Callable[[str, str], None], pairs: list[tuple[str, str]]) -> float:
    """CPU milliseconds per pair, the best of three rounds."""
    rounds = []
    for _ in range(3):
        start = time.process_time()
        for code, reference in pairs:
            function(code, reference)
        rounds.append((time.process_time() - start) / len(pairs) * 1000)
    return min(rounds)


if __name__ == "__main__":
    main()
