"""A verdict on an estimate: does the recipe fit, and the smallest change that makes it fit.

What may change is a short list of fields, tried in the order of what they cost the result: first
those that cost only time, then those that change the group, then what the model may read or write.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.models.estimate import Estimate, Shapes, estimate
from seccoderx_lite.recipe.reading import value_at, with_value
from seccoderx_lite.recipe.recipe import Recipe, check_recipe

GIB = 2**30
_SMALLEST_TEXT = 256
"""Shorter prompts or completions are not proposed."""

Change = tuple[str, Any]
"""Dotted key and new value, as `-o` takes them."""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its maker's figures."""

    memory_bytes: int
    flops: float
    """Dense 16-bit operations a second with float32 sums, at best."""
    bytes_per_s: float
    """Memory bandwidth, at best."""


CARDS = {
    "T4": Card(15 * GIB, 65e12, 320e9),
    "L4": Card(22 * GIB, 121e12, 300e9),
    "RTX 3090": Card(24 * GIB, 71e12, 936e9),
    "RTX 4090": Card(24 * GIB, 165e12, 1008e9),
    "A100 40GB": Card(40 * GIB, 312e12, 1555e9),
    "H100 80GB": Card(80 * GIB, 989e12, 3350e9),
}
"""From the data sheets; memory is what the driver leaves of a T4 and an L4 with ECC."""


def least_seconds(told: Estimate, card: Card) -> float | None:
    """Return a bound below the time of one policy step: everything at the card's best rates.

    Real steps take a multiple of it: transformers' decoding does not reach the bandwidth.
    """
    if told.work is None:
        return None
    return told.work.flops / card.flops + told.work.decode_bytes / card.bytes_per_s


def smallest_change(recipe: Recipe, shapes: Shapes, memory_bytes: int) -> list[Change] | None:
    """Return the mildest changes with which a recipe fits into memory; None if none does.

    One field alone if that is enough, else as few as it takes, each no further than needed.
    """
    fields = [list(values) for values in _fields(recipe) if values]
    for values in fields:
        for change in values:
            if _peak(recipe, shapes, [change]) <= memory_bytes:
                return [change]
    made: list[Change] = []
    for values in fields:
        made.append(values[-1])
        if _peak(recipe, shapes, made) <= memory_bytes:
            return _relaxed(recipe, shapes, memory_bytes, made, fields)
    return None


def _relaxed(
    recipe: Recipe,
    shapes: Shapes,
    memory_bytes: int,
    made: Sequence[Change],
    fields: Sequence[Sequence[Change]],
) -> list[Change]:
    """Take back, from the costliest field to the cheapest, whatever the others make up for."""
    kept = list(made)
    for index in reversed(range(len(made))):
        others = kept[:index] + kept[index + 1 :]
        if _peak(recipe, shapes, others) <= memory_bytes:
            kept = others
            continue
        milder = (v for v in fields[index] if _peak(recipe, shapes, [*others, v]) <= memory_bytes)
        kept[index] = next(milder)
    return kept


def _peak(recipe: Recipe, shapes: Shapes, changes: Sequence[Change]) -> int:
    document: Mapping[str, Any] = recipe.model_dump()
    for key, value in changes:
        document = with_value(document, key.split("."), value)
    return estimate(check_recipe(document, "recipe"), shapes).peak_bytes


def _fields(recipe: Recipe) -> Iterator[list[Change]]:
    """The values each field may take, mildest first; fields that cost least come first."""
    document = recipe.model_dump()

    def halves(key: str, least: int) -> list[Change]:
        value = value_at(document, key)
        if not isinstance(value, int):
            return []
        return [(key, smaller) for smaller in _halved(value) if smaller >= least]

    for section, whole in _trained_sections(document):
        trainer = f"{section}.trainer"
        if value_at(document, f"{trainer}.gradient_checkpointing") is False:
            yield [(f"{trainer}.gradient_checkpointing", True)]
        key = f"{trainer}.per_device_train_batch_size"
        now = value_at(document, key, whole)
        yield [(key, size) for size in _halved(now) if whole % size == 0]
    yield halves("judge.batch_size", 1)
    yield halves("evaluate.batch_size", 1)
    for section in ("policy.grpo", "judge.align"):
        yield halves(f"{section}.prompts_per_step", 1)
        yield halves(f"{section}.group_size", 2)
    yield halves("judge.max_code_chars", 2000)
    yield halves("judge.cold_start.max_tokens", _SMALLEST_TEXT)
    yield halves("policy.grpo.max_completion_tokens", _SMALLEST_TEXT)
    yield halves("judge.align.max_completion_tokens", _SMALLEST_TEXT)
    yield halves("judge.max_new_tokens", _SMALLEST_TEXT)
    yield halves("model.max_prompt_tokens", _SMALLEST_TEXT)


def _trained_sections(document: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Section of each training stage, and how many sequences one of its steps has."""
    for key in ("policy.grpo", "judge.align"):
        if section := value_at(document, key):
            yield key, section["group_size"] * section["prompts_per_step"]
    if section := value_at(document, "judge.cold_start"):
        yield "judge.cold_start", section["batch_size"]


def _halved(value: int) -> Iterator[int]:
    while value > 1:
        value //= 2
        yield value


def memory_of(text: str) -> int:
    """Return bytes of a size such as "16GB"; a GB is 1024**3 bytes, as cards are sold.

    Raises:
        RecipeError: the text is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:GB|GiB|G)?\s*", text, re.IGNORECASE)
    if not match or not float(match[1]):
        raise RecipeError(f"--memory: must be a size such as 16GB (got {text!r})")
    return int(float(match[1]) * GIB)


def card_of(name: str) -> Card:
    """Return a card by name, in any case.

    Raises:
        RecipeError: the card is not in the list.
    """
    for known, card in CARDS.items():
        if known.lower() == name.lower():
            return card
    raise RecipeError(f"--card: {name!r} is not known; give {', '.join(CARDS)}, or use --memory")


def told_as_table(told: Estimate) -> Iterator[str]:
    """Yield the lines of the table: what stays, what each phase adds, the peak, a step's work."""
    yield "stays in memory"
    yield from (_line(part.name, part.bytes, part.detail) for part in told.stays)
    yield "a phase needs on top, at its longest"
    yield from (_line(part.name, part.bytes, part.detail) for part in told.phases)
    worst = f"in {told.worst.name}" if told.worst else ""
    yield _line("peak", told.peak_bytes, worst)
    if told.work:
        yield (
            f"a policy step at its longest: {told.work.rollouts} rollouts, "
            f"{told.work.flops / 1e15:.2f} PFLOP, {told.work.decode_bytes / 1e12:.2f} TB read "
            "while decoding"
        )


def verdict(recipe: Recipe, shapes: Shapes, memory_bytes: int) -> tuple[bool, str]:
    """Return whether a recipe fits, and the verdict in words with the smallest change if not."""
    peak = estimate(recipe, shapes).peak_bytes
    size = f"{memory_bytes / GIB:.1f} GiB"
    if peak <= memory_bytes:
        return True, f"fits in {size} with {(memory_bytes - peak) / GIB:.1f} GiB to spare"
    changes = smallest_change(recipe, shapes, memory_bytes)
    lacking = f"does not fit in {size}: {(peak - memory_bytes) / GIB:.1f} GiB too much"
    if changes is None:
        return (
            False,
            f"{lacking}, and no smaller setting helps; take a smaller base or a larger GPU",
        )
    overrides = " ".join(f"-o {key}={str(value).lower()}" for key, value in changes)
    return False, f"{lacking}; the smallest change that makes it fit: {overrides}"


def _line(name: str, size: int, detail: str) -> str:
    figure = f"{size / GIB:7.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:7.1f} MiB"
    return f"  {name:<24}{figure}  {detail}".rstrip()
