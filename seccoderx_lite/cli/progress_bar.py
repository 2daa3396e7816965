"""Progress of a command on standard error, and the results it prints at the end.

On a terminal two live lines, 80 columns wide or less; otherwise a line with a time stamp for every
note, every tenth of a stage and every minute.
"""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seccoderx_lite.run.stage_progress import (
    NAME_WIDTH,
    StageProgress,
    clock,
    finished_line,
    joined,
)

if TYPE_CHECKING:
    from rich.console import Group

logger = logging.getLogger(__name__)

_LINES_PER_STAGE = 10
_LINE_EVERY_S = 60.0


class ProgressBar:
    """Shows the current stage; nothing with --quiet, and in the first process only."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._stage: StageProgress | None = None
        is_shown = logger.isEnabledFor(logging.INFO) and os.environ.get("RANK", "0") == "0"
        is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,  # results go to standard output, also while this is on stderr
        )
        self._is_live = is_shown and is_live
        self._prints_lines = is_shown and not is_live
        self._line: tuple[float, int] = (0.0, 0)
        """Time and step of the last line."""

    def __enter__(self) -> "ProgressBar":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._live.stop()

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Any]) -> None:
        if values.get("done"):
            self._finish(stage)
            return
        is_new = self._stage is None or self._stage.name != stage
        if self._stage is None or is_new:
            self._stage = StageProgress(stage)
        self._stage.update(step, total, values)
        if self._prints_lines and (is_new or not total or self._is_due(step, total)):
            self._line = time.monotonic(), step
            logger.info("%s", _log_line(self._stage))

    def _is_due(self, step: int, total: int) -> bool:
        at, last = self._line
        is_share = step - last >= max(1, total // _LINES_PER_STAGE) or step == total
        return is_share or time.monotonic() - at >= _LINE_EVERY_S

    def _finish(self, stage: str) -> None:
        line = finished_line(stage, self._stage, self._width)
        self._stage = None
        if self._is_live:
            self._console.print(line, highlight=False, markup=False)
        elif self._prints_lines:
            logger.info("%s", line)

    @property
    def _width(self) -> int:
        return self._console.width if self._is_live else 200

    def _render(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        if self._stage is None:
            return Group(Text(""), Text(""))
        second = joined(self._stage.measures(), self._width)
        return Group(self._first_line(self._stage), Text(second, no_wrap=True))

    def _first_line(self, stage: StageProgress) -> Any:
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        elapsed = f"{clock(stage.elapsed_s)} elapsed"
        if stage.note or not stage.total:
            text = f"{stage.name:<{NAME_WIDTH}}{stage.note}  {elapsed}"
            return Text(text, no_wrap=True, overflow="ellipsis")
        left = stage.left_s()
        rest = [
            f"{stage.step:,}/{stage.total:,}",
            elapsed if left is None else f"{clock(stage.elapsed_s)}, {clock(left)} left",
            stage.speed(),
        ]
        name = f"{stage.name:<{NAME_WIDTH}}"
        words = joined([word for word in rest if word], self._width - len(name) - 8)
        line = Table.grid()
        bar = max(5, min(24, self._width - len(name) - len(words) - 3))
        line.add_row(name, Bar(stage.total, stage.step, width=bar), f"  {words}")
        return line


def _log_line(stage: StageProgress) -> str:
    parts = [part for part in (stage.speed(), *stage.measures()) if part]
    line = f"{stage.name:<{NAME_WIDTH}}{stage.position()}"
    return f"{line}: {', '.join(parts)}" if parts and not stage.note else line


def print_results(folder: Path) -> None:
    """Print the evaluation of a run and the paths of its report and of how to use its exports."""
    from seccoderx_lite.core.scores import Evaluation
    from seccoderx_lite.reporting.text import describe_evaluation
    from seccoderx_lite.run.files import read_record

    if (folder / "evaluation.json").exists():
        for line in describe_evaluation(read_record(folder / "evaluation.json", Evaluation)):
            typer.echo(line)
    for place in ("export/README.md", "report.html"):
        if (folder / place).exists():
            typer.echo(folder / place)
