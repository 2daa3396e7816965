"""What a run needs besides GPU memory: main memory, disk, and hours per stage.

Bytes of weights are exact; what Python and the sandbox take is assumed or an upper limit. Hours are
lower bounds: all work at the card's peak rates, with the longest texts.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from seccoderx_lite.models.engine_memory import uses_engine
from seccoderx_lite.models.estimate import CPU, Part
from seccoderx_lite.models.gpus import GpuSpec, least_seconds
from seccoderx_lite.models.shapes import Shapes
from seccoderx_lite.models.step_memory import GPU_DTYPE_BYTES
from seccoderx_lite.models.step_work import (
    Work,
    align_work,
    evaluation_work,
    held_out_work,
    policy_work,
    sft_work,
)
from seccoderx_lite.recipe.recipe import Recipe

_CUDA_LIBRARIES_BYTES = 2 * 2**30
"""Assumed for CUDA's libraries in main memory."""
_KEPT_CHECKPOINTS = 3
"""Two are kept per stage, and a third exists while it is written."""


def main_memory(recipe: Recipe, shapes: Shapes) -> tuple[Part, ...]:
    """Return what a run with a GPU takes of main memory at most."""
    libraries = CPU.fixed.bytes + _CUDA_LIBRARIES_BYTES
    parts = [Part("Python, torch and CUDA", libraries, "assumed")]
    if recipe.policy or recipe.evaluate or recipe.export:
        workers = recipe.sandbox.workers or len(os.sched_getaffinity(0))
        size = workers * recipe.sandbox.memory_mb * 2**20
        parts.append(Part("sandbox", size, f"{workers} workers, each at its limit"))
    if uses_engine(recipe):
        size = shapes.base.base_bytes(recipe.model.quantization, GPU_DTYPE_BYTES)
        parts.append(Part("vLLM asleep", size, "its base, during the update"))
    if _is_merged(recipe):
        parts.append(Part("export: merge", 2 * shapes.base.parameters, "the base in 16 bits"))
    return tuple(parts)


def disk(recipe: Recipe, shapes: Shapes) -> tuple[Part, ...]:
    """Return what a run writes at most: checkpoints, adapters and exports."""
    return tuple(part for part in _disk(recipe, shapes) if part.bytes)


def _disk(recipe: Recipe, shapes: Shapes) -> Iterator[Part]:
    adapter = 4 * shapes.base.lora_parameters(recipe.model.lora)
    judge = recipe.judge
    trained = (judge.cold_start, judge.align) if judge else ()
    policy = recipe.policy
    sections = (*trained, policy and policy.warm_start, policy)
    stages = sum(section is not None for section in sections)
    # A checkpoint has the adapter and AdamW's two numbers per weight.
    checkpoints = stages * _KEPT_CHECKPOINTS * 3 * adapter
    yield Part("checkpoints", checkpoints, f"at most {_KEPT_CHECKPOINTS} for each of {stages}")
    yield Part("adapters", stages * adapter, "float32")
    if export := recipe.export:
        half = 2 * shapes.base.parameters
        # A GGUF file is made from a merged model, and one in 4 bits from a GGUF file in 16 bits.
        sizes = {"adapter": adapter, "merged": half, "gguf": 2 * half}
        sizes |= {"gguf-q8_0": 2 * half, "gguf-q4_k_m": 3 * half}
        size = sum(sizes[form] for form in set(export.formats))
        yield Part("export", size, ", ".join(export.formats))
    if not Path(recipe.model.base).exists() and ":" not in recipe.model.base:
        yield Part("download", 2 * shapes.base.parameters, "the base, in the hub's cache")


def _is_merged(recipe: Recipe) -> bool:
    return bool(recipe.export and set(recipe.export.formats) != {"adapter"})


def least_hours(
    recipe: Recipe, shapes: Shapes, gpu: GpuSpec, evaluation_tasks: int | None
) -> Mapping[str, float]:
    """Return a lower bound of the hours of each stage on a card.

    The evaluation is left out where the number of its tasks is unknown.
    """
    judge, policy = recipe.judge, recipe.policy
    cold_start, align = (judge.cold_start, judge.align) if judge else (None, None)
    warm_start = policy.warm_start if policy else None
    stages: list[tuple[str, int, Work | None]] = [
        (
            "cold_start",
            cold_start.steps if cold_start else 0,
            sft_work(recipe, shapes, cold_start),
        ),
        ("align", align.steps if align else 0, align_work(recipe, shapes)),
        (
            "warm_start",
            warm_start.steps if warm_start else 0,
            sft_work(recipe, shapes, warm_start),
        ),
        ("policy", policy.grpo.steps if policy else 0, policy_work(recipe, shapes)),
        ("held-out tasks", 1, held_out_work(recipe, shapes)),
    ]
    if evaluation_tasks:
        stages.append(("evaluate", 1, evaluation_work(recipe, shapes, evaluation_tasks)))
    return {name: count * least_seconds(work, gpu) / 3600 for name, count, work in stages if work}
