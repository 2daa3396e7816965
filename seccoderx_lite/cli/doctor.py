"""The command `doctor`: what this machine offers."""

from collections.abc import Sequence
from pathlib import Path

import typer

from seccoderx_lite.recipe.recipe import load_recipe
from seccoderx_lite.run.environment import (
    describe_gpu,
    sandbox_details,
    sandbox_tier,
    works_in_four_bits,
)
from seccoderx_lite.sandbox import Sandbox


def check(path: Path, overrides: Sequence[str]) -> bool:
    """Print what of a recipe this machine cannot do; return whether it can do everything."""
    recipe = load_recipe(path, overrides)
    from seccoderx_lite.cli.doctor_recipe import faults  # imports torch

    is_able = True
    for line in faults(recipe):
        is_able = False
        typer.echo(f"cannot   {line}")
    typer.echo(f"{path}: this machine {'can' if is_able else 'cannot'} run it")
    return is_able


def run() -> bool:
    """Print GPU, 4-bit support, sandbox and languages; return whether `train` can run here."""
    gpu, four_bits = describe_gpu(), works_in_four_bits()
    with Sandbox("limits-only") as sandbox:
        tier, layers = sandbox_tier(sandbox)
        details = sandbox_details(sandbox)
    typer.echo(f"GPU      {gpu.name if gpu else 'none: training runs on the CPU'}")
    typer.echo(f"4-bit    {'works' if four_bits is None else 'fails: ' + four_bits}")
    typer.echo(f"sandbox  {tier or 'none'} ({layers})")
    for line in details:
        typer.echo(f"         {line}")
    if four_bits or tier not in ("strong", "confined"):
        typer.echo(
            "train cannot run with default settings: if 4-bit fails, set model.quantization: "
            "none; to accept a weaker sandbox, set sandbox.isolation: limits-only",
            err=True,
        )
        return False
    return True
