"""In which precision training computes."""

import re
from pathlib import Path

import torch

from seccoderx_lite.models.base import compute_dtype
from seccoderx_lite.models.shapes import parameter_count

_LARGE = 50_000_000
"""Parameters from which bfloat16 is faster on a processor that has it."""
_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What /proc/cpuinfo calls arithmetic in bfloat16 on x86, and on ARM."""


def training_dtype(base: str) -> torch.dtype:
    """Return the type of a training step's matrix products; weights and sums keep theirs.

    As `compute_dtype` on a GPU. On a processor with bfloat16, large models train in it.
    """
    if torch.cuda.is_available():
        return compute_dtype()
    is_faster = has_bfloat16(Path("/proc/cpuinfo")) and parameter_count(base) >= _LARGE
    return torch.bfloat16 if is_faster else torch.float32


def has_bfloat16(cpuinfo: Path) -> bool:
    """Return whether the processor multiplies in bfloat16; False where that is not known."""
    try:
        lines = cpuinfo.read_text()
    except OSError:
        return False
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", lines, re.MULTILINE)
    return flags is not None and not _FLAGS.isdisjoint(flags[1].split())
