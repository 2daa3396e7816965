"""What `seccoderx-lite estimate` does: table, time and verdict for one recipe."""

from collections.abc import Callable

from seccoderx_lite.models.estimate import estimate, shapes_of
from seccoderx_lite.models.memory_fit import (
    card_of,
    least_seconds,
    memory_of,
    told_as_table,
    verdict,
)
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.environment import describe_gpu


def run(recipe: Recipe, memory: str | None, card: str | None, tell: Callable[[str], None]) -> bool:
    """Tell the estimate of a recipe line by line; return False if it does not fit.

    Without memory, card and GPU there is no verdict.

    Raises:
        RecipeError: memory or card cannot be read.
        ModelError: a model's config cannot be had.
    """
    chosen = card_of(card) if card else None
    gpu = describe_gpu()
    size = gpu.memory_bytes if gpu else None
    if chosen:
        size = chosen.memory_bytes
    if memory:
        size = memory_of(memory)
    shapes = shapes_of(recipe)
    told = estimate(recipe, shapes)
    for line in told_as_table(told):
        tell(line)
    if chosen and (seconds := least_seconds(told, chosen)) is not None:
        tell(f"a policy step takes at least {seconds:.0f} s at the card's best rates")
    if size is None:
        tell("no GPU here to compare with; give --memory 16GB or --card T4 for a verdict")
        return True
    fits, words = verdict(recipe, shapes, size)
    tell(words)
    return fits
