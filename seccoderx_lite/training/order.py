"""Which rows training meets, and when; a pure function of the seed.

Written out in full, training is one epoch, and a resumed run meets exactly the rows that an
unbroken one would; trainers shuffle a later epoch differently after a restart.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from seccoderx_lite.core.records import Json

Row = dict[str, Json]
Kind = TypeVar("Kind", bound=str)


def in_training_order(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Return `count` rows: pass after pass over all of them, each shuffled anew."""
    rng = random.Random(seed)
    ordered: list[Row] = []
    while len(ordered) < count:
        ordered += rng.sample(rows, len(rows))
    return ordered[:count]


def in_turns(
    kinds: Mapping[Kind, Sequence[Row]],
    turns: Sequence[Kind],
    steps: int,
    step_size: int,
    seed: int,
) -> list[Row]:
    """Return the rows of `steps` steps, each of one kind, the kinds taking turns.

    >>> kinds = {"long": [{"n": 1}], "short": [{"n": 2}]}
    >>> [row["n"] for row in in_turns(kinds, ["short", "short", "long"], 4, 2, seed=0)]
    [2, 2, 2, 2, 1, 1, 2, 2]
    """
    order = [turns[step % len(turns)] for step in range(steps)]
    streams = {
        kind: iter(in_training_order(rows, order.count(kind) * step_size, seed))
        for kind, rows in kinds.items()
    }
    return [next(streams[kind]) for kind in order for _ in range(step_size)]
