"""The command `audit`."""

from pathlib import Path
from typing import Annotated

import typer

from seccoderx_lite.cli.options import Overrides, RunFolderOption
from seccoderx_lite.cli.progress_bar import ProgressBar
from seccoderx_lite.run.progress import note

audit_app = typer.Typer()


@audit_app.command()
def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Recipe, as for `train`, or a source of tasks such as FILE.jsonl.",
        ),
    ],
    override: Overrides = None,
    run_folder: RunFolderOption = None,
    tasks: Annotated[int, typer.Option(min=1, help="Use at most N tasks, drawn at random.")] = 50,
    output: Annotated[Path | None, typer.Option(help="JSON file of the result.")] = None,
) -> None:
    """Test a recipe's reward, judge and tasks with known bad answers, before training.

    Shows what empty answers, stubs, insecure code, code that addresses the judge, exits or patches
    the tests, and others earn and may earn at most, and which tasks have wrong tests. Exits with 1
    if one of them earns as much as honest code, or could not be scored at all.
    """
    from seccoderx_lite.cli import audit_table as table
    from seccoderx_lite.recipe.recipe import SandboxRecipe, load_recipe
    from seccoderx_lite.run import files

    recipe = load_recipe(target, override or []) if table.is_recipe(target) else None
    with ProgressBar() as progress:
        note(progress, "audit", "loading the libraries")
        from seccoderx_lite.stages import audit as stage

        if recipe:
            found = stage.run(recipe, run_folder, count=tasks, progress=progress)
        else:
            box = SandboxRecipe()
            found = stage.run_on_tasks(target, count=tasks, sandbox=box, progress=progress)
    for line in table.lines(found):
        typer.echo(line)
    if output:
        files.write_json(output, found.as_json())
    if not found.audit.is_sound:
        raise typer.Exit(1)
