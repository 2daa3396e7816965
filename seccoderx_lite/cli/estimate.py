"""The `estimate` command: a table of memory and work, the least time, and whether a recipe fits."""

import re
from collections.abc import Callable, Iterator

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.models.estimate import Estimate, estimate, shapes_of
from seccoderx_lite.models.gpus import GIB, gpu_named, least_seconds
from seccoderx_lite.models.memory_fit import MemoryFit, memory_fit
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.environment import describe_gpu


def run(
    recipe: Recipe, memory: str | None, card: str | None, print_line: Callable[[str], None]
) -> bool:
    """Print the estimate of a recipe; return False if it does not fit.

    It is compared with `memory`, else with the GPU named `card`, else with this machine's GPU; with
    none of them it counts as fitting.

    Raises:
        RecipeError: memory or card cannot be read.
        ModelError: a model's config cannot be loaded.
    """
    gpu = gpu_named(card) if card else None
    here = describe_gpu()
    memory_bytes = here.memory_bytes if here else None
    if gpu:
        memory_bytes = gpu.memory_bytes
    if memory:
        memory_bytes = parse_memory(memory)
    shapes = shapes_of(recipe)
    estimated = estimate(recipe, shapes)
    for line in table(estimated):
        print_line(line)
    if gpu and estimated.work:
        seconds = least_seconds(estimated.work, gpu)
        print_line(f"a policy step takes at least {seconds:.0f} s at the card's peak rates")
    if memory_bytes is None:
        print_line("no GPU to compare with; give --memory 16GB or --card T4")
        return True
    fit = memory_fit(recipe, shapes, memory_bytes)
    print_line(fit_message(fit))
    return fit.fits


def parse_memory(text: str) -> int:
    """Return the bytes of a size such as "16GB"; a GB is 1024**3 bytes, as cards are sold.

    Raises:
        RecipeError: the text is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:GB|GiB|G)?\s*", text, re.IGNORECASE)
    if not match or not float(match[1]):
        raise RecipeError(f"--memory: must be a size such as 16GB (got {text!r})")
    return int(float(match[1]) * GIB)


def table(estimated: Estimate) -> Iterator[str]:
    """Yield the lines of the table: constant memory, memory per phase, the peak, a step's work."""
    yield "always in memory"
    yield from (_row(part.name, part.bytes, part.detail) for part in estimated.constant)
    yield "additional memory per phase, at the longest texts"
    yield from (_row(part.name, part.bytes, part.detail) for part in estimated.phases)
    worst = f"in {estimated.worst.name}" if estimated.worst else ""
    yield _row("peak", estimated.peak_bytes, worst)
    if work := estimated.work:
        yield (
            f"a policy step at the longest texts: {work.rollouts} rollouts, "
            f"{work.flops / 1e15:.2f} PFLOP, {work.decode_bytes / 1e12:.2f} TB read while decoding"
        )


def _row(name: str, size: int, detail: str) -> str:
    figure = f"{size / GIB:7.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:7.1f} MiB"
    return f"  {name:<24}{figure}  {detail}".rstrip()


def fit_message(fit: MemoryFit) -> str:
    """Return whether the recipe fits in words, with the overrides that make it fit."""
    size = f"{fit.memory_bytes / GIB:.1f} GiB"
    gap = f"{abs(fit.memory_bytes - fit.peak_bytes) / GIB:.1f} GiB"
    if fit.fits:
        return f"fits in {size} with {gap} to spare"
    if fit.changes is None:
        advice = "no smaller setting is enough; use a smaller base or a larger GPU"
    else:
        overrides = " ".join(f"-o {key}={str(value).lower()}" for key, value in fit.changes)
        advice = f"the smallest change that makes it fit: {overrides}"
    return f"does not fit in {size}: {gap} too much; {advice}"
