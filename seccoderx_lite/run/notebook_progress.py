"""Progress in a notebook: a finished line per stage and two lines that are updated in place."""

import time
from collections.abc import Mapping
from typing import Any

from IPython.display import DisplayHandle

from seccoderx_lite.core.records import Json
from seccoderx_lite.run.stage_progress import StageProgress, finished_line, joined

_WIDTH = 100
_EVERY_S = 0.5


class NotebookProgress:
    """One output of the cell, which each report replaces; needs no widgets."""

    def __init__(self) -> None:
        self._finished: list[str] = []
        self._stage: StageProgress | None = None
        self._shown = 0.0
        self._output: Any = DisplayHandle()
        self._output.display({"text/plain": ""}, raw=True)

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
        if values.get("done"):
            self._finished.append(finished_line(stage, self._stage, _WIDTH))
            self._stage = None
        else:
            if self._stage is None or self._stage.name != stage:
                self._stage = StageProgress(stage)
            self._stage.update(step, total, values)
        is_between = 0 < step < total
        if not is_between or time.monotonic() - self._shown > _EVERY_S:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        lines = list(self._finished)
        if stage := self._stage:
            first = [f"{stage.name:<10}", stage.position(), stage.speed()]
            lines += [joined(first, _WIDTH, " "), joined(stage.measures(), _WIDTH)]
        self._output.update({"text/plain": "\n".join(lines)}, raw=True)
