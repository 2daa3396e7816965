"""Options that several commands share, so that each has one name and one help text."""

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="YAML recipe, for example recipes/tiny.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="FIELD=VALUE",
        help="Override one recipe field, for example policy.grpo.steps=50; repeatable.",
    ),
]
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
