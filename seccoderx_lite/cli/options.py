"""Options that several commands share, so that each has one name and one help text."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json


def complete_recipe(incomplete: str) -> list[str]:
    """Return the recipes of the package and the files that begin as typed, for the shell."""
    from seccoderx_lite.recipe.shipped import shipped_recipes

    folder, typed = os.path.split(incomplete)
    entries = os.scandir(folder or ".") if os.path.isdir(folder or ".") else ()
    files = [
        os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
        for entry in entries
        if entry.name.startswith(typed) and (entry.is_dir() or entry.name.endswith(".yaml"))
    ]
    return [name for name in shipped_recipes() if name.startswith(incomplete)] + sorted(files)


RecipeFile = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        help="YAML file, or the name of a recipe that `recipes` lists, for example tiny.",
        autocompletion=complete_recipe,
    ),
]


def _override(example: str) -> Any:
    return typer.Option(
        "-o",
        "--override",
        metavar="FIELD=VALUE",
        help=f"Override one recipe field, for example {example}; repeatable.",
    )


Overrides = Annotated[list[str] | None, _override("policy.grpo.steps=50")]
EvaluateOverrides = Annotated[list[str] | None, _override("model.backend=unsloth")]
JudgeOverrides = Annotated[list[str] | None, _override("judge.max_new_tokens=256")]
RunFolderOption = Annotated[Path | None, typer.Option(help="Run folder (default: runs/<name>).")]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Rename an earlier run folder and start from the beginning.")
]
VerdictMode = Annotated[
    str | None,
    typer.Option(help="Verdict mode: reason, direct or cascade (default: as trained)."),
]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="Environment variable with the API key of the server.")
]


def judge_settings(overrides: Sequence[str] | None, **options: Json) -> dict[str, Json]:
    """Return the fields of the recipe's section `judge` that options and overrides set.

    Raises:
        RecipeError: an override is malformed or sets a field of another section.
    """
    from seccoderx_lite.recipe.recipe import with_overrides

    document = with_overrides({}, overrides or ())
    if others := document.keys() - {"judge"}:
        raise RecipeError(
            f"-o {min(others)}: without a recipe only fields of the judge can be overridden; use "
            "for example judge.max_new_tokens=256"
        )
    return {**options, **document.get("judge", {})}
