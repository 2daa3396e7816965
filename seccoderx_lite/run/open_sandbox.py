"""Open the sandbox that a recipe asks for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from seccoderx_lite.models.distributed import process_count
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.sandbox import Limits, Sandbox


@contextmanager
def sandbox_of(recipe: Recipe) -> Iterator[Sandbox]:
    """Open the sandbox a recipe asks for."""
    settings = recipe.sandbox
    limits = Limits(
        timeout_s=settings.timeout_s, memory_mb=settings.memory_mb, processes=settings.processes
    )
    workers = settings.workers
    if workers is None and process_count() > 1:
        workers = max(1, len(os.sched_getaffinity(0)) // process_count())
    with Sandbox(settings.isolation, workers, limits) as sandbox:
        yield sandbox
