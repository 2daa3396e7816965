"""Whether a recipe fits into a GPU's memory, and the smallest change that makes it fit.

A fixed list of fields may change, in the order of what they cost: first those that only cost time,
then the rollout group, then how much the model may read or write.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.models.estimate import estimate
from seccoderx_lite.models.shapes import Shapes
from seccoderx_lite.recipe.reading import value_at, with_value
from seccoderx_lite.recipe.recipe import Recipe, check_recipe

_SMALLEST_TEXT = 256
"""Shorter prompts or completions are never proposed."""

Change = tuple[str, Any]
"""Dotted key and new value, as for `-o`."""


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """Whether a recipe fits into memory."""

    memory_bytes: int
    peak_bytes: int
    changes: tuple[Change, ...] | None
    """What makes it fit: nothing if it fits already, None if no change does."""

    @property
    def fits(self) -> bool:
        return self.peak_bytes <= self.memory_bytes


def memory_fit(recipe: Recipe, shapes: Shapes, memory_bytes: int) -> MemoryFit:
    """Return whether a recipe fits into memory, and the smallest change if not."""
    peak = estimate(recipe, shapes).peak_bytes
    changes = [] if peak <= memory_bytes else smallest_change(recipe, shapes, memory_bytes)
    return MemoryFit(memory_bytes, peak, None if changes is None else tuple(changes))


def smallest_change(recipe: Recipe, shapes: Shapes, memory_bytes: int) -> list[Change] | None:
    """Return the mildest changes that make a recipe fit into memory; None if none do.

    One field alone if that is enough, otherwise as few as possible, each changed as little as
    possible.
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
    """Drop or weaken changes that turn out to be unnecessary, costliest first."""
    kept = list(made)
    for index in reversed(range(len(made))):
        others = kept[:index] + kept[index + 1 :]
        if _peak(recipe, shapes, others) <= memory_bytes:
            kept = others
            continue
        kept[index] = next(
            change
            for change in fields[index]
            if _peak(recipe, shapes, [*others, change]) <= memory_bytes
        )
    return kept


def _peak(recipe: Recipe, shapes: Shapes, changes: Sequence[Change]) -> int:
    document: Mapping[str, Any] = recipe.model_dump()
    for key, value in changes:
        document = with_value(document, key.split("."), value)
    return estimate(check_recipe(document, "recipe"), shapes).peak_bytes


def _fields(recipe: Recipe) -> Iterator[list[Change]]:
    """Yield the changes of each field, mildest first; fields that cost least come first."""
    document = recipe.model_dump()

    def halves(key: str, smallest: int) -> list[Change]:
        value = value_at(document, key)
        if not isinstance(value, int):
            return []
        return [(key, half) for half in _halved(value) if half >= smallest]

    for section, sequences in _trained_sections(document):
        trainer = f"{section}.trainer"
        if value_at(document, f"{trainer}.gradient_checkpointing") is False:
            yield [(f"{trainer}.gradient_checkpointing", True)]
        key = f"{trainer}.per_device_train_batch_size"
        micro = value_at(document, key, sequences)
        yield [(key, size) for size in _halved(micro) if sequences % size == 0]
    yield halves("judge.batch_size", 1)
    yield halves("evaluate.batch_size", 1)
    for section in ("policy.grpo", "judge.align"):
        yield halves(f"{section}.prompts_per_step", 1)
        yield halves(f"{section}.group_size", 2)
    yield halves("judge.max_code_chars", 2000)
    yield halves("judge.cold_start.max_tokens", _SMALLEST_TEXT)
    yield halves("policy.warm_start.max_tokens", _SMALLEST_TEXT)
    yield halves("policy.grpo.max_completion_tokens", _SMALLEST_TEXT)
    yield halves("judge.align.max_completion_tokens", _SMALLEST_TEXT)
    yield halves("judge.max_new_tokens", _SMALLEST_TEXT)
    yield halves("model.max_prompt_tokens", _SMALLEST_TEXT)


def _trained_sections(document: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the section of each training stage, and its sequences per step."""
    for key in ("policy.grpo", "judge.align"):
        if section := value_at(document, key):
            yield key, section["group_size"] * section["prompts_per_step"]
    for key in ("judge.cold_start", "policy.warm_start"):
        if section := value_at(document, key):
            yield key, section["batch_size"]


def _halved(value: int) -> Iterator[int]:
    while value > 1:
        value //= 2
        yield value
