"""The commands `doctor`, `estimate` and `bench`: what this machine or another GPU can do."""

from pathlib import Path
from typing import Annotated

import typer

from seccoderx_lite.cli.options import (
    Overrides,
    RecipeFile,
    complete_recipe,
)

machine_app = typer.Typer()


@machine_app.command()
def doctor(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RECIPE]",
            help="Say what of this recipe the machine cannot do.",
            autocompletion=complete_recipe,
            show_default=False,
        ),
    ] = None,
    override: Overrides = None,
    all_tiers: Annotated[
        bool,
        typer.Option("--all-tiers", help="Also try every language in the weaker sandbox tiers."),
    ] = False,
) -> None:
    """Show GPU, 4-bit support, sandbox and languages; exit 1 if `train` cannot run here.

    With a RECIPE, also check its data, suites, servers, packages, tools, memory and disk, and name
    what is missing, with the way to get it.
    """
    from seccoderx_lite.cli.doctor import check, run

    if not (check(recipe, override or []) if recipe else run(all_tiers)):
        raise typer.Exit(1)


@machine_app.command()
def bench(
    recipe: RecipeFile,
    override: Overrides = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            help="Run folder or adapter of a trained judge (default: the recipe's run folder)."
        ),
    ] = None,
    random: Annotated[
        str | None,
        typer.Option(
            metavar="SHAPE",
            help="Measure random weights in the shape of this model (hub id, folder or "
            "config.json), with the tiny base's tokenizer and tasks, at the greatest lengths.",
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="GPU memory to use, for example 16GB (default: all).")
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(help='"shared", "two models" or "no judge"; repeatable (default: all).'),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="GRPO steps per run; the first is a warm-up and not counted.")
    ] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Runs per layout, in alternating order.")] = 2,
    output: Annotated[
        Path | None,
        typer.Option(help="JSON file of the figures, rewritten after each run."),
    ] = None,
) -> None:
    """Time each phase of a GRPO step; compare with two models in memory and with no judge."""
    from seccoderx_lite.cli.bench import bench as measure
    from seccoderx_lite.cli.bench_figures import LAYOUTS, BenchResult, table
    from seccoderx_lite.cli.estimate import parse_memory
    from seccoderx_lite.recipe.recipe import load_recipe
    from seccoderx_lite.run import files

    def keep(result: BenchResult) -> None:
        if output:
            files.write_json(output, result.as_json())

    result = measure(
        load_recipe(recipe, override or []),
        judge,
        random_shape=random,
        memory_bytes=parse_memory(memory) if memory else None,
        steps=steps,
        rounds=rounds,
        layouts=layout or LAYOUTS,
        on_layout=lambda layout, done, total: typer.echo(f"{done}/{total} {layout}", err=True),
        on_figures=keep,
    )
    for line in table(result):
        typer.echo(line)
    if not result.layouts:
        raise typer.Exit(1)


@machine_app.command()
def estimate(
    recipe: RecipeFile,
    override: Overrides = None,
    memory: Annotated[
        str | None, typer.Option(help="GPU memory, for example 16GB (default: of this machine).")
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            help="GPU by name, for example T4 or 4090; also prints the least time per step."
        ),
    ] = None,
) -> None:
    """Estimate the GPU memory and work of a recipe from the model's config, without running it.

    Exits with 1 if it does not fit, and prints the smallest change that makes it fit. The figures
    are for one CUDA GPU and were never compared with a real one.
    """
    from seccoderx_lite.cli.estimate import run
    from seccoderx_lite.recipe.recipe import load_recipe

    if not run(load_recipe(recipe, override or []), memory, card, typer.echo):
        raise typer.Exit(1)
