"""Whether a recipe fits into memory, and the smallest change that makes it fit.

A fixed list of fields may change, in the order of what they cost: first those that only cost time,
then the rollout group, then how much the model may read or write.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.models.estimate import GPU, Hardware, estimate
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


def memory_fit(
    recipe: Recipe, shapes: Shapes, memory_bytes: int, hardware: Hardware = GPU
) -> MemoryFit:
    """Return whether a recipe fits into memory, and the smallest change if not."""
    peak = estimate(recipe, shapes, hardware).peak_bytes
    if peak <= memory_bytes:
        return MemoryFit(memory_bytes, peak, ())
    changes = smallest_change(recipe, shapes, memory_bytes, hardware)
    return MemoryFit(memory_bytes, peak, None if changes is None else tuple(changes))


def smallest_change(
    recipe: Recipe, shapes: Shapes, memory_bytes: int, hardware: Hardware = GPU
) -> list[Change] | None:
    """Return the mildest changes that make a recipe fit into memory; None if none do.

    One field alone if that is enough, otherwise as few as possible, each changed as little as
    possible.
    """

    def fits(changes: Sequence[Change]) -> bool:
        document: Mapping[str, Any] = recipe.model_dump()
        for key, value in changes:
            document = with_value(document, key.split("."), value)
        changed = check_recipe(document, "recipe")
        return estimate(changed, shapes, hardware).peak_bytes <= memory_bytes

    fields = [list(values) for values in _fields(recipe) if values]
    for values in fields:
        for change in values:
            if fits([change]):
                return [change]
    made: list[Change] = []
    for values in fields:
        made.append(values[-1])
        if fits(made):
            return _relaxed(fits, made, fields)
    return None


def _relaxed(
    fits: Callable[[Sequence[Change]], bool],
    made: Sequence[Change],
    fields: Sequence[Sequence[Change]],
) -> list[Change]:
    """Drop or weaken changes that turn out to be unnecessary, costliest first."""
    kept = list(made)
    for index in reversed(range(len(made))):
        others = kept[:index] + kept[index + 1 :]
        if fits(others):
            kept = others
            continue
        kept[index] = next(change for change in fields[index] if fits([*others, change]))
    return kept


def fit_message(fit: MemoryFit) -> str:
    """Return whether the recipe fits in words, with the overrides that make it fit."""
    size = f"{fit.memory_bytes / 2**30:.1f} GiB"
    gap = f"{abs(fit.memory_bytes - fit.peak_bytes) / 2**30:.1f} GiB"
    if fit.fits:
        return f"fits in {size} with {gap} to spare"
    if fit.changes is None:
        advice = "no smaller setting is enough; use a smaller base or a machine with more memory"
    else:
        overrides = " ".join(f"-o {key}={str(value).lower()}" for key, value in fit.changes)
        advice = f"the smallest change that makes it fit: {overrides}"
    return f"does not fit in {size}: {gap} too much; {advice}"


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
