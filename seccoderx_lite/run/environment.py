"""What a run was made with: versions, hardware, sandbox, code version; `doctor` shows it too."""

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.core.records import Json
from seccoderx_lite.sandbox import Sandbox

PACKAGES = (
    "seccoderx-lite",
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "unsloth",
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that torch uses."""

    name: str
    memory_bytes: int
    bf16: bool
    """Whether it computes in bfloat16."""


def describe_environment(sandbox: Sandbox) -> dict[str, Json]:
    """Return versions, hardware and sandbox layers, as JSON."""
    return {
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": len(os.sched_getaffinity(0)),
        "gpu": asdict(gpu) if (gpu := describe_gpu()) else None,
        "sandbox": asdict(sandbox.describe()),
        "git_commit": _git_commit(),
    }


def describe_gpu() -> Gpu | None:
    """Return what torch says about the GPU, None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return Gpu(properties.name, properties.total_memory, torch.cuda.is_bf16_supported())


def main_memory_bytes() -> int:
    """Return the main memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def works_in_four_bits() -> str | None:
    """Run a 4-bit layer forward and backward; return None if that works, else what went wrong."""
    import torch
    from bitsandbytes.nn import Linear4bit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        layer = Linear4bit(64, 64, quant_type="nf4", compute_dtype=torch.float32).to(device)
        values = torch.ones(2, 64, device=device, requires_grad=True)
        layer(values).sum().backward()
    except (RuntimeError, NotImplementedError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None if values.grad is not None else "a 4-bit layer returned no gradient"


def sandbox_tier(sandbox: Sandbox) -> tuple[str | None, str]:
    """Return the sandbox's tier and the names of its active layers; (None, reason) without one."""
    try:
        described = sandbox.describe()
    except SandboxError as error:
        return None, str(error)
    return described.tier, ", ".join(
        name for name, state in described.layers.items() if state == "on"
    )


def sandbox_details(sandbox: Sandbox) -> list[str]:
    """Return lines on each language, and one per repair that would make the tier stronger.

    A language is tried out: a small program must run in this tier.
    """
    described = sandbox.describe()
    works = sandbox.check_languages()
    tools = []
    for language, found in described.toolchains.items():
        state = works.get(language, "")
        ending = f" ({state} in tier {described.tier})" if state == "works" else ""
        tools.append(f"{language:<10} {found}{ending}")
        if state and not ending:
            tools += [f"{'':<10} {line}" for line in state.splitlines()]
    return [*tools, *(f"to repair  {line}" for line in described.repairs)]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the checkout this package is imported from, None if installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
