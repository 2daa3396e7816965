"""How far long work has come, told to whoever draws it."""

from collections.abc import Mapping
from typing import Protocol

from seccoderx_lite.core.records import Json


class Progress(Protocol):
    """Is told how far a stage has come; the command line draws it."""

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
        """Show that `step` of `total` is done, with the numbers worth showing."""
        ...


def no_progress(stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
    """Show nothing."""
