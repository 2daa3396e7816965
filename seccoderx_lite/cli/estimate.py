"""The `estimate` command: memory per phase, main memory, disk, hours, and whether a recipe fits."""

import re
from collections.abc import Callable, Iterator, Sequence

from seccoderx_lite.core.errors import DataError, RecipeError
from seccoderx_lite.models.estimate import CPU, Estimate, Part, estimate, shapes_of
from seccoderx_lite.models.gpus import GIB, GpuSpec, gpu_named, least_seconds
from seccoderx_lite.models.memory_fit import fit_message, memory_fit
from seccoderx_lite.models.resources import disk, least_hours, main_memory
from seccoderx_lite.models.shapes import Shapes
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.environment import describe_gpu, main_memory_bytes


def run(
    recipe: Recipe, memory: str | None, card: str | None, print_line: Callable[[str], None]
) -> bool:
    """Print the estimate of a recipe; return False if it does not fit.

    It is for a GPU with `memory`, else for the GPU named `card`, else for this machine: its GPU, or
    its processor and main memory.

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
    if memory_bytes is None:
        return _on_cpu(recipe, shapes, print_line)
    estimated = estimate(recipe, shapes)
    print_line("GPU memory")
    for line in table(estimated):
        print_line(line)
    for line in parts_table("main memory at most", main_memory(recipe, shapes)):
        print_line(line)
    for line in parts_table("disk", disk(recipe, shapes)):
        print_line(line)
    if gpu:
        for line in hours_table(recipe, shapes, estimated, gpu):
            print_line(line)
    fit = memory_fit(recipe, shapes, memory_bytes)
    print_line(fit_message(fit))
    return fit.fits


def _on_cpu(recipe: Recipe, shapes: Shapes, print_line: Callable[[str], None]) -> bool:
    estimated = estimate(recipe, shapes, CPU)
    print_line("main memory, because this machine has no GPU (for one: --memory 16GB or --card T4)")
    for line in table(estimated):
        print_line(line)
    for line in parts_table("disk", disk(recipe, shapes)):
        print_line(line)
    fit = memory_fit(recipe, shapes, main_memory_bytes(), CPU)
    print_line(fit_message(fit))
    return fit.fits


def parts_table(title: str, parts: Sequence[Part]) -> Iterator[str]:
    """Yield a title, a line per part, and their sum."""
    yield title
    yield from (_row(part.name, part.bytes, part.detail) for part in parts)
    yield _row("in all", sum(part.bytes for part in parts), "")


def hours_table(recipe: Recipe, shapes: Shapes, estimated: Estimate, gpu: GpuSpec) -> Iterator[str]:
    """Yield the least time of a policy step and of each stage on a card."""
    if estimated.work:
        seconds = least_seconds(estimated.work, gpu)
        yield f"a policy step takes at least {seconds:.0f} s at the card's peak rates"
    tasks = evaluation_tasks(recipe)
    hours = least_hours(recipe, shapes, gpu, tasks)
    shown = [f"{stage} {bound:.1f}" for stage, bound in hours.items()]
    if recipe.evaluate and tasks is None:
        shown.append("evaluate unknown (its suites are not on this machine)")
    if shown:
        yield f"hours at least, with the longest texts: {', '.join(shown)}"


def evaluation_tasks(recipe: Recipe) -> int | None:
    """Return how many tasks the evaluation has, None if its suites cannot be read here."""
    from seccoderx_lite.evaluation.suites.loading import load_suites

    if recipe.evaluate is None:
        return None
    try:
        return sum(len(suite.tasks) for suite in load_suites(recipe.evaluate))
    except DataError:
        return None


def parse_memory(text: str) -> int:
    """Return the bytes of a size such as "16GB"; a GB is 1024**3 bytes, as cards are sold.

    Raises:
        RecipeError: the text is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:GB|GiB|G)?\s*", text, re.IGNORECASE)
    if not match or not 0 < float(match[1]) < 1e9:
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
