"""Times our similarity against the codebleu package on the same pairs, in one run.

    python tests/benchmark_similarity.py [--group-size 8]

Prints CPU time per pair. A reference is compared with a whole rollout group, so each pair stands
for one completion of its group; "first" is the completion for which the reference is analysed too.
"""

import argparse
import logging
import time
from collections.abc import Callable

from similarity_pairs import similarity_pairs

from seccoderx_lite.records import LANGUAGES
from seccoderx_lite.rewards import similarity as ours
from seccoderx_lite.rewards.codebleu import WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--group-size", type=int, default=8)
    group_size = parser.parse_args().group_size
    from codebleu import calc_codebleu

    logging.disable(logging.WARNING)
    for language in LANGUAGES:
        pairs = [(code, ref) for _, code, ref in similarity_pairs((language,)) if code.strip()]

        def codebleu(code: str, ref: str, language: str = language) -> None:
            calc_codebleu([ref], [code], lang=language, weights=WEIGHTS)

        def first(code: str, ref: str, language: str = language) -> None:
            ours._analyse_reference.cache_clear()
            ours.similarity_parts(code, ref, language)

        def later(code: str, ref: str, language: str = language) -> None:
            ours.similarity_parts(code, ref, language)

        codebleu_ms, first_ms, later_ms = (_cpu_ms(f, pairs) for f in (codebleu, first, later))
        group_ms = (first_ms + (group_size - 1) * later_ms) / group_size
        print(
            f"{language:10} {len(pairs):3} pairs: codebleu {codebleu_ms:6.2f} ms, "
            f"ours first {first_ms:5.2f}, later {later_ms:5.2f}, in a group {group_ms:5.2f} ms: "
            f"{codebleu_ms / group_ms:4.1f} times faster (first {codebleu_ms / first_ms:4.1f})"
        )


def _cpu_ms(function: Callable[[str, str], None], pairs: list[tuple[str, str]]) -> float:
    """Milliseconds of CPU a pair, the best of three rounds."""
    rounds = []
    for _ in range(3):
        start = time.process_time()
        for code, reference in pairs:
            function(code, reference)
        rounds.append((time.process_time() - start) / len(pairs) * 1000)
    return min(rounds)


if __name__ == "__main__":
    main()
