"""The order of training rows, as a pure function of the seed.

All passes over the data are written out in full, so that training is one epoch: after a restart,
trainers shuffle a second epoch differently than an uninterrupted run would.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from seccoderx_lite.core.records import Json

Row = dict[str, Json]
Kind = TypeVar("Kind", bound=str)


def in_training_order(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Return `count` rows: several passes over all rows, each in a new random order.

    Rows with the column `source`, which the result lacks, are taken from every source in turn, so
    that a large source does not crowd out a small one.

    >>> rows = [{"n": 1, "source": "small"}, *({"n": 2, "source": "large"} for _ in range(9))]
    >>> [row["n"] for row in in_training_order(rows, 6, seed=0)]
    [1, 2, 1, 2, 1, 2]
    """
    sources: dict[Json, list[Row]] = {}
    for row in rows:
        alone = {name: value for name, value in row.items() if name != "source"}
        sources.setdefault(row.get("source"), []).append(alone)
    passes = [_passes(own, count, seed) for own in sources.values()]
    return [row for turn in zip(*passes, strict=False) for row in turn][:count]


def _passes(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    rng = random.Random(seed)
    ordered: list[Row] = []
    while len(ordered) < count:
        ordered += rng.sample(rows, len(rows))
    return ordered[:count]


def short_first(rows: Sequence[Row], step_size: int) -> list[Row]:
    """Return the rows with those of each step sorted by length; the steps keep their order.

    The micro-batches of a step then hold rows of similar length, and little padding.

    >>> rows = [{"input_ids": [0] * length} for length in (3, 1, 2, 1)]
    >>> [len(row["input_ids"]) for row in short_first(rows, 2)]
    [1, 3, 1, 2]
    """
    steps = (rows[start : start + step_size] for start in range(0, len(rows), step_size))
    return [row for step in steps for row in sorted(step, key=lambda row: len(row["input_ids"]))]


def in_turns(
    kinds: Mapping[Kind, Sequence[Row]],
    turns: Sequence[Kind],
    steps: int,
    step_size: int,
    seed: int,
) -> list[Row]:
    """Return the rows of `steps` steps; all rows of a step are of one kind, in turn.

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
