"""The commands `recipes` and `init`; their work is in `recipes`."""

from pathlib import Path
from typing import Annotated

import typer

from seccoderx_lite.cli.options import complete_recipe

recipe_app = typer.Typer()


@recipe_app.command()
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Print this recipe.", autocompletion=complete_recipe),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            help="Print the JSON schema of recipes, with which editors complete and check them; "
            "with a RECIPE for synth, the schema of those.",
        ),
    ] = False,
) -> None:
    """List the recipes that come with the package; use their names as RECIPE."""
    from seccoderx_lite.cli import recipes as work

    if schema:
        typer.echo(work.schema(name))
    elif name:
        typer.echo(work.text_of(name), nl=False)
    else:
        for line in work.listing():
            typer.echo(line)


@recipe_app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Recipe to write, for example mine.yaml.")],
    base: Annotated[
        str | None, typer.Option(help="Base model: hub id or folder (default: one that fits).")
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(help="GPU to fit the recipe to, for example T4 or 4090 (default: this GPU)."),
    ] = None,
) -> None:
    """Write a recipe in which every field is explained, for a base model and a GPU."""
    from seccoderx_lite.cli import recipes as work

    for line in work.init(file, base, card):
        typer.echo(line)
