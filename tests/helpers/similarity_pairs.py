"""Pairs of code and reference for comparing our similarity with the codebleu package."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from seccoderx_lite.core.records import LANGUAGES, Language

SAMPLES = Path(__file__).parents[1] / "data" / "samples"


def similarity_pairs(
    languages: tuple[Language, ...] = LANGUAGES, *, is_joined: bool = False
) -> list[tuple[Language, str, str]]:
    """(language, code, reference): each sample, whole, rewritten, damaged, and paired with another.

    Joined: the samples of a language are one, of about 100 lines.
    """
    pairs = []
    for language in languages:
        samples = (SAMPLES / f"{language}.txt").read_text().split("-----\n")
        samples = ["\n".join(samples)] if is_joined else samples
        rng = random.Random(language)
        for position, reference in enumerate(samples):
            other = samples[position - 1]
            for code in (reference, other, *_mutations(reference, other, rng)):
                pairs.append((language, code, reference))
    return pairs


def _mutations(code: str, other: str, rng: random.Random) -> Iterator[str]:
    lines = code.splitlines()
    place = rng.randrange(1, len(lines) - 1)
    yield "\n".join(lines[:place] + lines[place + 1 :])
    yield "\n".join([*lines, *lines[place:]])
    yield "\n".join(lines[:place] + other.splitlines()[-4:] + lines[place:])
    yield "\n".join(rng.sample(lines, len(lines)))
    yield re.sub(r"\b(?:name|value|count|i|size)\b", "renamed", code)
    yield code.replace("==", "!=").replace("<", ">=").replace("+", "-")
    yield code[: rng.randrange(len(code))]
    for damage in ("(", ")", '"', "'", "\n", "#", "{", "\\", "$", "\u00e9"):
        place = rng.randrange(len(code))
        yield code[:place] + damage + code[place + 1 :]
    yield code.replace("    ", "\t")
    yield code.replace("    ", "\t", 2)
    yield "\n".join(line.lstrip() for line in lines)
    yield ""
