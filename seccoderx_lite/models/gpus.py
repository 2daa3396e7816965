"""GPUs by name, and the least time that a policy step can take on one."""

from dataclasses import dataclass

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.models.estimate import Work

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
    "RTX 3090": GpuSpec(24 * GIB, 71e12, 936e9),
    "RTX 4090": GpuSpec(24 * GIB, 165e12, 1008e9),
    "A100 40GB": GpuSpec(40 * GIB, 312e12, 1555e9),
    "H100 80GB": GpuSpec(80 * GIB, 989e12, 3350e9),
}
"""From the data sheets; the memory of a T4 and an L4 is what the driver leaves with ECC."""


def gpu_named(name: str) -> GpuSpec:
    """Return a GPU by name, ignoring case.

    Raises:
        RecipeError: the GPU is not in the list.
    """
    for known, gpu in GPUS.items():
        if known.lower() == name.lower():
            return gpu
    raise RecipeError(f"--card: unknown GPU {name!r}; use one of {', '.join(GPUS)}, or --memory")


def least_seconds(work: Work, gpu: GpuSpec) -> float:
    """Return a lower bound for one policy step: all work at the GPU's peak rates.

    Real steps take several times as long: transformers' decoding does not reach the bandwidth.
    """
    return work.flops / gpu.flops + work.decode_bytes / gpu.bytes_per_s
