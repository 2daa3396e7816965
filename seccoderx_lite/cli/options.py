"""Options that several commands share, so that each has one name and one help text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="YAML recipe, for example recipes/tiny.yaml.")
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
            f"-o {min(others)}: without a recipe only fields of the judge can be overridden, for "
            "example judge.max_new_tokens=256"
        )
    return {**options, **document.get("judge", {})}
