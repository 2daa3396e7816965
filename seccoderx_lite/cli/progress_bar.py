"""Progress of a command on standard error, and the results it prints at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

_SHOWN = {
    "reward": "reward",
    "rollout_esr": "ESR",
    "functional_share": "functional",
    "judged_safe_share": "judged safe",
    "kl": "KL",
    "accuracy": "accuracy",
    "loss": "loss",
    "tokens_per_s": "tokens/s",
    "cost": "cost",
}
"""Measures of a stage that are shown, in this order, and their labels."""


class ProgressBar:
    """One live line per stage on a terminal; otherwise a line when a stage starts and ends."""

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
            progress.TextColumn("{task.fields[measures]}"),
            console=self._console,
            disable=not (is_shown and self._console.is_terminal),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._bar.stop()

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Any]) -> None:
        if values.get("done"):
            self._print(f"{stage}: done")
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, measures="")
            self._print(f"{stage}: started")
        measures = _measures(values)
        self._bar.update(self._tasks[stage], completed=step, total=total, measures=measures)

    def _print(self, line: str) -> None:
        if not self._console.is_terminal:
            typer.echo(line, err=True)


def _measures(values: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{label} {values[key]:.3g}"
        for key, label in _SHOWN.items()
        if isinstance(values.get(key), int | float)
    )


def print_results(folder: Path) -> None:
    """Print the evaluation of a run and the paths of its exports and report."""
    from seccoderx_lite.core.scores import Evaluation
    from seccoderx_lite.reporting.text import describe_evaluation
    from seccoderx_lite.run.files import read_record

    if (folder / "evaluation.json").exists():
        for line in describe_evaluation(read_record(folder / "evaluation.json", Evaluation)):
            typer.echo(line)
    for place in ("export/merged", "export/adapter", "export/gguf", "report.html"):
        if (folder / place).exists():
            typer.echo(folder / place)
