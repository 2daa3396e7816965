"""The callback that long-running work reports its progress to, and what it shows in a notebook."""

import sys
from collections.abc import Mapping
from typing import Protocol

from seccoderx_lite.core.records import Json


class Progress(Protocol):
    """Called after each step of a stage; the command line draws it."""

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
        """Report that `step` of `total` is done, and the step's metrics.

        The last call for a stage has `done: True` among its values. A call with a total of 0 is
        not a step: its value `note` says what the stage does now, for example loading a model.
        """
        ...


def no_progress(stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
    """Report nothing."""


def note(progress: Progress, stage: str, text: str) -> None:
    """Report what a stage does now where it has no steps to count."""
    progress(stage, 0, 0, {"note": text})


def default_progress() -> Progress:
    """Return a live display in a notebook, else `no_progress`."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, "kernel"):
        return no_progress
    from seccoderx_lite.run.notebook_progress import NotebookProgress

    return NotebookProgress()
