"""Several processes of one run, as `accelerate launch` starts them; alone, all of it does nothing.

Each process has its own model, judge and sandbox and takes its share of every step. The first one
alone writes the run folder.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from seccoderx_lite.core.records import Json

Value = TypeVar("Value")

_PATIENCE = timedelta(days=1)
"""The others wait while the first process measures a judge or merges an export."""

# Processes on a CPU are told that their device is "cpu:0", which torch.load does not know.
torch.serialization.register_package(
    15, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


def process_count() -> int:
    """Return how many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Say whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if process_count() > 1:
        PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE).wait_for_everyone()


def gather_values(value: Value) -> list[Value]:
    """Return the value of every process, in their order."""
    return list(gather_object([value])) if process_count() > 1 else [value]


_SUMMED = {"completion_tokens", "unscored", "unclear_verdicts"}


def combine_step_values(shares: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Return the values of a step of which each process did an equal share: sums, or means."""
    if len(shares) == 1:
        return dict(shares[0])
    whole: dict[str, Json] = {}
    for name in shares[0]:
        values = [share[name] for share in shares if share.get(name) is not None]
        if name == "alarms":
            whole[name] = list(dict.fromkeys(alarm for alarms in values for alarm in alarms))
        elif name in _SUMMED:
            whole[name] = sum(values)
        else:
            whole[name] = sum(values) / len(values) if values else None
    return whole
