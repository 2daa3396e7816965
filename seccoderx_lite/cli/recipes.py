"""List the recipes of the package, print their schema, and write a new one."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import ModelError, RecipeError
from seccoderx_lite.recipe.commented import commented_recipe
from seccoderx_lite.recipe.reading import read_document, with_value
from seccoderx_lite.recipe.recipe import Recipe, check_recipe, load_recipe
from seccoderx_lite.recipe.section import Section
from seccoderx_lite.recipe.shipped import find_recipe, shipped_recipes, summary_of
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run import files

_STARTS = (
    (22, "qwen2.5-coder-7b-24gb"),
    (12, "qwen2.5-coder-3b-16gb"),
    (0, "qwen2.5-coder-1.5b-t4"),
)
"""GiB of a GPU from which on a recipe of the package is the start of a new one."""


def listing() -> Iterator[str]:
    """Yield the name of each recipe of the package, and below it what it is for."""
    for name, file in shipped_recipes().items():
        yield name
        yield from (f"    {line}" for line in textwrap.wrap(summary_of(file), 76))


def text_of(name: str) -> str:
    """Return a recipe as its file has it."""
    return find_recipe(name).read_text("utf-8")


def schema(name: str | None) -> str:
    """Return the JSON schema of recipes for `train`, or of a named recipe's kind."""
    is_synth = name is not None and "generator" in read_document(find_recipe(name))
    model: type[Section] = SynthRecipe if is_synth else Recipe
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(draft | model.model_json_schema(), indent=2)


def init(file: Path, base: str | None, card: str | None) -> Iterator[str]:
    """Write a commented recipe for a base model and a GPU; yield what to tell the user.

    Without `card` it is for this machine's GPU; without a GPU, the tiny model is the default base.

    Raises:
        RecipeError: the file exists, the card is unknown, or the base does not fit on it.
    """
    if file.exists():
        raise RecipeError(f"{file} already exists; choose another name, or delete it")
    from seccoderx_lite.models.gpus import GIB

    memory = _memory_of(card)
    start = "tiny"
    if base or memory is not None:
        start = next(name for least, name in _STARTS if (memory or 12 * GIB) >= least * GIB)
    document: dict[str, Any] = load_recipe(start).model_dump(mode="json")
    document |= {"name": file.stem}
    if base:
        document = with_value(document, ["model", "base"], base)
    recipe = check_recipe(document, str(file))
    note = "memory was not estimated: no GPU given (--card T4)"
    if memory is not None:
        recipe, note = _fitted(recipe, memory)
    header = [f"Recipe for {recipe.model.base}; it starts from the recipe {start}.", f"{note}."]
    header += ["`#key: value` is a default: remove the # and change the value."]
    text = "".join(f"# {line}\n" for line in header) + commented_recipe(recipe)
    files.write_text(file, text)
    yield f"{file}: {recipe.model.base}, from the recipe {start}; {note}"
    yield f"to run it: seccoderx-lite train {file}"


def _memory_of(card: str | None) -> int | None:
    from seccoderx_lite.models.gpus import gpu_named
    from seccoderx_lite.run.environment import describe_gpu

    if card:
        return gpu_named(card).memory_bytes
    here = describe_gpu()
    return here.memory_bytes if here else None


def _fitted(recipe: Recipe, memory_bytes: int) -> tuple[Recipe, str]:
    """Return the recipe with the smallest changes that make it fit, and what is known about it."""
    from seccoderx_lite.models.estimate import shapes_of
    from seccoderx_lite.models.gpus import GIB
    from seccoderx_lite.models.memory_fit import memory_fit

    try:
        shapes = shapes_of(recipe)
    except ModelError:
        reason = f"the config of {recipe.model.base} cannot be loaded"
        return recipe, f"memory was not estimated: {reason}"
    fit = memory_fit(recipe, shapes, memory_bytes)
    if fit.changes is None:
        raise RecipeError(
            f"--base: {recipe.model.base} does not fit in {memory_bytes / GIB:.0f} GiB with any "
            "settings; use a smaller base or a larger card"
        )
    document = recipe.model_dump(mode="json")
    for key, value in fit.changes:
        document = with_value(document, key.split("."), value)
    fitted = check_recipe(document, recipe.name)
    peak = memory_fit(fitted, shapes, memory_bytes).peak_bytes
    return fitted, f"estimated peak memory {peak / GIB:.1f} of {memory_bytes / GIB:.0f} GiB"
