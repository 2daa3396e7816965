"""Open the sandbox that a recipe asks for."""

import os
from collections.abc import Sequence

from seccoderx_lite.recipe.recipe import SandboxRecipe
from seccoderx_lite.sandbox import Limits, Sandbox


def open_sandbox(settings: SandboxRecipe, readable: Sequence[str] = ()) -> Sandbox:
    """Return an open sandbox; the caller closes it, or uses it in a `with` statement.

    Jailed programs may read the folders `readable`. Several processes of one run share the
    processors: each gets an equal part of them.

    Raises:
        SandboxError: this machine cannot isolate as strongly as the recipe requires, or lacks a
            package that it offers to the code.
    """
    from seccoderx_lite.models.distributed import process_count  # imports torch

    workers = settings.workers
    if workers is None and process_count() > 1:
        workers = max(1, len(os.sched_getaffinity(0)) // process_count())
    limits = Limits(
        timeout_s=settings.timeout_s, memory_mb=settings.memory_mb, processes=settings.processes
    )
    return Sandbox(
        settings.isolation, workers, limits, readable=readable, packages=settings.packages
    )
