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

WITHOUT = ((), ("namespaces",), ("namespaces", "landlock", "seccomp", "uid"))
"""The layers to switch off for each tier, strongest first."""


def language_table() -> list[str]:
    """Return a table of the languages that work in each tier that this machine offers."""
    found: dict[str, dict[str, str]] = {}
    for layers in WITHOUT:
        with Sandbox("limits-only", without=layers) as sandbox:
            if (tier := sandbox.isolation.tier) not in found:
                found[tier] = sandbox.check_languages()
    languages = list(dict.fromkeys(name for works in found.values() for name in works))
    lines = [f"{'tier':<12}" + "".join(f" {name:<10}" for name in languages)]
    for tier, works in found.items():
        states = ("works" if works.get(name) == "works" else "fails" for name in languages)
        lines.append(f"{tier:<12}" + "".join(f" {state:<10}" for state in states))
    return [line.rstrip() for line in lines]


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


def run(all_tiers: bool = False) -> bool:
    """Print GPU, 4-bit support, sandbox and languages; return whether `train` can run here."""
    gpu, four_bits = describe_gpu(), works_in_four_bits()
    with Sandbox("limits-only") as sandbox:
        tier, layers = sandbox_tier(sandbox)
        details = sandbox_details(sandbox)
    if all_tiers:
        details += language_table()
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
