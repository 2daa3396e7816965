"""Distributed runs, as started by `accelerate launch`; with one process nothing here has an effect.

Each process has its own model, judge and sandbox, and does an equal share of every step. Only the
first process writes the run folder.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from seccoderx_lite.core.records import Json

Value = TypeVar("Value")

_TIMEOUT = timedelta(days=1)
"""The others wait for the first process while it measures a judge or merges an export."""

# Distributed processes on a CPU get the device "cpu:0", which torch.load does not know.
torch.serialization.register_package(
    15, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


def process_count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    return int(os.environ.get("RANK", "0"))


def is_first_process() -> bool:
    """Whether this process is the one that writes."""
    return process_rank() == 0


def wait_for_all() -> None:
    """Block until every process has called this."""
    if process_count() > 1:
        PartialState(cpu=not torch.cuda.is_available(), timeout=_TIMEOUT).wait_for_everyone()


@contextmanager
def process_group() -> Iterator[None]:
    """Leave the group of processes in order when the block ends.

    Threads of a group that is never destroyed can abort the process at its end. After a failure the
    others are not waited for: they may never come. Whoever is waiting then gets an error.
    """
    try:
        yield
        wait_for_all()
    except BaseException:
        if _in_group() and torch.distributed.get_backend() == "gloo":  # NCCL could wait for others
            torch.distributed.destroy_process_group()
        raise
    if _in_group():
        torch.distributed.destroy_process_group()


def _in_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL")


def is_loss_of_another(error: BaseException) -> bool:
    """Return whether an error only says that another process of this launched run has ended."""
    return process_count() > 1 and any(text in str(error) for text in _LOST)


def gather_values(value: Value) -> list[Value]:
    """Return the value of every process, in order of rank."""
    return list(gather_object([value])) if process_count() > 1 else [value]


_SUMMED = {"completion_tokens", "unscored", "unclear_verdicts"}


def combine_step_values(shares: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Return one record for a step from those of the processes: sums for counts, else means."""
    if len(shares) == 1:
        return dict(shares[0])
    combined: dict[str, Json] = {}
    for name in shares[0]:
        values = [share[name] for share in shares if share.get(name) is not None]
        if name == "alarms":
            combined[name] = list(dict.fromkeys(alarm for alarms in values for alarm in alarms))
        elif name == "trained_on":
            combined[name] = values[0]
        elif name in _SUMMED:
            combined[name] = sum(values)
        else:
            combined[name] = sum(values) / len(values) if values else None
    return combined
