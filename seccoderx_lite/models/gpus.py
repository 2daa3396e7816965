"""GPUs by name, and the least time that a policy step can take on one."""

import re
from dataclasses import dataclass

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.models.step_work import Work

GIB = 2**30


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """Memory and peak rates of a kind of GPU."""

    memory_bytes: int
    flops: float
    """Dense 16-bit operations per second with float32 sums."""
    bytes_per_s: float
    """Memory bandwidth."""


GPUS = {
    "T4": GpuSpec(15 * GIB, 65e12, 320e9),
    "L4": GpuSpec(22 * GIB, 121e12, 300e9),
    "A10": GpuSpec(22 * GIB, 125e12, 600e9),
    "RTX 3090": GpuSpec(24 * GIB, 71e12, 936e9),
    "RTX 4090": GpuSpec(24 * GIB, 165e12, 1008e9),
    "A100 40GB": GpuSpec(40 * GIB, 312e12, 1555e9),
    "A100 80GB": GpuSpec(80 * GIB, 312e12, 2039e9),
    "H100 80GB": GpuSpec(80 * GIB, 989e12, 3350e9),
}
"""From the data sheets; the memory of a T4, an L4 and an A10 is what the driver leaves with ECC."""


def gpu_named(name: str) -> GpuSpec:
    """Return a GPU by its name, or by a part of it that names one GPU only: 4090, h100, a100-80gb.

    Raises:
        RecipeError: the GPU is not in the list, or several have such a name.
    """
    words = re.findall(
        r"[a-z]+\d*|\d+(?:gb)?", name.lower().replace("nvidia", "").replace("rtx", "rtx ")
    )
    full = {known: known.lower().split() for known in GPUS}
    found = [known for known in full if full[known] == words] or [
        known for known in full if words and set(words) <= set(full[known])
    ]
    if len(found) == 1:
        return GPUS[found[0]]
    problem = f"{name!r} is {' or '.join(found)}" if found else f"unknown GPU {name!r}"
    raise RecipeError(
        f"--card: {problem}; use one of {', '.join(found or GPUS)}, or give its --memory"
    )


def least_seconds(work: Work, gpu: GpuSpec) -> float:
    """Return a lower bound for one policy step: all work at the GPU's peak rates.

    Real steps take several times as long: transformers' decoding does not reach the bandwidth.
    """
    return work.flops / gpu.flops + work.decode_bytes / gpu.bytes_per_s
