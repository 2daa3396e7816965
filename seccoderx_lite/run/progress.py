"""The callback that long-running work reports its progress to."""

from collections.abc import Mapping
from typing import Protocol

from seccoderx_lite.core.records import Json


class Progress(Protocol):
    """Called after each step of a stage; the command line draws it."""

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
        """Report that `step` of `total` is done, and the step's metrics.

        The last call for a stage has `done: True` among its values.
        """
        ...


def no_progress(stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
    """Report nothing: the default where nobody watches."""
