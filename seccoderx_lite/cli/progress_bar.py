"""What a command shows while it works, and what it tells at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer


class Progress:
    """A live line on a terminal; elsewhere one line a finished stage."""

    def __init__(self, is_shown: bool = True) -> None:
        from rich import progress
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description:<10}"),
            progress.BarColumn(20),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[told]}"),
            console=self._console,
            disable=not (is_shown and self._console.is_terminal),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._bar.stop()

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Any]) -> None:
        """Draw the state of a stage."""
        if values.get("done"):
            if not self._console.is_terminal:
                typer.echo(f"{stage}: done", err=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, told="")
            if not self._console.is_terminal:
                typer.echo(f"{stage}: started", err=True)
        self._bar.update(self._tasks[stage], completed=step, total=total, told=_told(values))


_SHOWN = {
    "reward": "reward", "rollout_esr": "ESR", "functional_share": "works",
    "judged_safe_share": "judged safe", "kl": "KL", "accuracy": "accuracy", "loss": "loss",
    "tokens_per_s": "tokens/s", "cost": "cost",
}  # fmt: skip


def _told(values: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{name} {values[key]:.3g}" for key, name in _SHOWN.items()
        if isinstance(values.get(key), int | float)
    )  # fmt: skip


def tell_results(folder: Path) -> None:
    """Print what a run measured and where its files lie."""
    from seccoderx_lite.reporting.text import describe_evaluation
    from seccoderx_lite.run.folder import RunFolder

    run = RunFolder.existing(folder)
    if (folder / "evaluation.json").exists():
        for line in describe_evaluation(run.read_json("evaluation.json")):
            typer.echo(line)
    for place in ("export/merged", "export/adapter", "export/gguf", "report.html"):
        if (folder / place).exists():
            typer.echo(folder / place)
