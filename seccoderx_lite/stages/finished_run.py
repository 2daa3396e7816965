"""Add to a finished run: grade its stored answers again, export it again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import Recipe, check_recipe
from seccoderx_lite.run import stopping
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, default_progress, note
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import (
    evaluation,
    export,
    report,
)
from seccoderx_lite.stages.pipeline import open_sandbox_for


@contextmanager
def _reopened(run_folder: Path | str) -> Iterator[tuple[Recipe, RunFolder, Sandbox]]:
    """Open a finished run with its stored recipe, to add results to it."""
    recipe = RunFolder.existing(run_folder).recipe
    with open_sandbox_for(recipe) as sandbox, RunFolder.open(run_folder, recipe) as folder:
        yield recipe, folder, sandbox


def grade_again(run_folder: Path | str, progress: Progress | None = None) -> Path:
    """Grade a run's stored answers again, rewrite its evaluation and report, return its folder.

    Raises:
        DataError: the run has no answers.
    """
    progress = progress or default_progress()
    with stopping.safe_points(), _reopened(run_folder) as (recipe, folder, sandbox):
        evaluation.grade_again(recipe, folder, sandbox, progress)
        report.run(folder)
        return folder.path


def export_again(
    run_folder: Path | str,
    formats: Sequence[str],
    *,
    role: str = "policy",
    to: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Export a run's policy or judge in other formats; return the folder of each format.

    Raises:
        RecipeError: a format or the role is unknown, or `to` already has a format's folder.
        RunStopped: an export differs too much from the trained adapter.
    """
    if role not in ("policy", "judge"):
        raise RecipeError(f"--role: must be policy or judge (got {role!r})")
    with _reopened(run_folder) as (recipe, folder, sandbox):
        document = recipe.model_dump(mode="json")
        document["export"] = {**(document["export"] or {}), "formats": list(formats)}
        changed = check_recipe(document, "export")
        if to and (existing := [form for form in formats if (Path(to) / form).exists()]):
            raise RecipeError(
                f"--output: {Path(to) / existing[0]} already exists; choose another folder"
            )
        target = Path(to) if to else folder.export / ("judge" if role == "judge" else "")
        base = recipe.judge.base if role == "judge" and recipe.judge else None
        progress = progress or default_progress()
        note(progress, "export", f"loading {base or recipe.model.base}")
        # Exporting needs no training backend, and unsloth would have to be imported first.
        model = recipe.model.model_copy(
            update={"backend": "transformers", **({"base": base} if base else {})}
        )
        export.run(
            changed,
            folder,
            load_base(model),
            sandbox,
            progress,
            role="judge" if role == "judge" else "policy",
            target=target,
        )
        return {form: target / form for form in formats}
