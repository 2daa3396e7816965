"""Which tasks the next step trains on: those whose rollout groups had unequal rewards lately.

A group whose rewards are all equal has no advantage, so it teaches nothing and still costs a
rollout, a reward and an update. TRL offers no callable between the rewards and the update, so an
update over a part of the batch would need an overridden method. So the groups that teach nothing
are avoided before they are sampled: a task's weight is a running mean of how far the rewards of its
groups were apart, compared with the whole step.
"""

import math
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from seccoderx_lite.core.numbers import finite
from seccoderx_lite.core.records import Json

MEMORY = 0.3
"""Weight of all earlier groups of a task against its last one."""
LEAST = 0.1
"""Least weight, of a task whose last two groups taught nothing: it is drawn a tenth as often as one
never seen."""
DELAY = 2
"""A draw uses what was learnt up to this many draws before: data loaders read one batch ahead."""


def spread_of_groups(
    task_ids: Sequence[str], rewards: Sequence[float | None], group_size: int
) -> dict[str, float]:
    """Return how far apart the rewards of each task's groups are, in [0, 1].

    Their standard deviation divided by that of all rewards, at most 1. Groups with fewer than two
    rewards tell nothing.

    >>> spread_of_groups(["a", "a", "b", "b"], [0.0, 4.0, 4.0, 4.0], group_size=2)
    {'a': 1.0, 'b': 0.0}
    """
    known = [value for value in map(finite, rewards) if value is not None]
    whole = pstdev(known) if known else 0.0
    spreads: dict[str, list[float]] = {}
    for start in range(0, len(rewards), group_size):
        group = [v for v in map(finite, rewards[start : start + group_size]) if v is not None]
        if len(group) > 1:
            spread = min(1.0, pstdev(group) / whole) if whole else 0.0
            spreads.setdefault(task_ids[start], []).append(spread)
    return {name: fmean(values) for name, values in spreads.items()}


class Curriculum(TrainerCallback, ExportableState):
    """Draws the tasks of each step; its state is part of every checkpoint.

    A draw depends on the seed, its number and the weights alone, so that a resumed run draws the
    same tasks.
    """

    def __init__(self, sources: Mapping[str, str], per_draw: int, seed: int) -> None:
        """Draw `per_draw` of the tasks at a time, none of them twice if there are enough.

        `sources` has the source of each task by its id. Tasks not seen yet are drawn from every
        source in equal parts.
        """
        self._task_ids = list(sources)
        sizes = Counter(sources.values())
        self._parts = {name: min(sizes.values()) / sizes[of] for name, of in sources.items()}
        self._per_draw = per_draw
        self._seed = seed
        self._weights: dict[str, float] = {}
        """Of the tasks seen; the others have weight 1."""
        self._pending: dict[int, dict[str, float]] = {}
        """What draws taught that no draw has used yet."""
        self._drawn: dict[int, list[str]] = {}

    def dataset(self, rows: Sequence[Mapping[str, Json]], count: int) -> Dataset:
        """Return `count` rows whose content is decided when they are first read.

        `rows` are the rows of all tasks, with the columns `task_id` and `prompt`.
        """
        row_of = {row["task_id"]: row for row in rows}

        def read(batch: Mapping[str, list[int]]) -> dict[str, list[Json]]:
            draws = [divmod(slot, self._per_draw) for slot in batch["slot"]]
            chosen = [row_of[self.tasks(draw)[place]] for draw, place in draws]
            columns = {name: [row[name] for row in chosen] for name in chosen[0]}
            return {**columns, "draw": [draw for draw, _ in draws]}

        return Dataset.from_dict({"slot": list(range(count))}).with_transform(read)

    def tasks(self, draw: int) -> list[str]:
        """Return the tasks of a draw; the first draw has number 0."""
        if draw not in self._drawn:
            for earlier in sorted(n for n in self._pending if n <= draw - DELAY):
                self._learn(self._pending.pop(earlier))
            self._drawn = {n: ids for n, ids in self._drawn.items() if n >= draw - DELAY}
            self._drawn[draw] = self._draw(random.Random(f"{self._seed}/{draw}"))
        return self._drawn[draw]

    def record(
        self, draw: int, task_ids: Sequence[str], rewards: Sequence[float | None], group_size: int
    ) -> None:
        """Take in the rewards of a draw's groups."""
        self._pending[draw] = spread_of_groups(task_ids, rewards, group_size)

    @property
    def seldom_share(self) -> float:
        """Share of the tasks that are drawn seldom now, because their last group taught nothing."""
        return sum(w <= MEMORY for w in self._weights.values()) / len(self._task_ids)

    def state(self) -> dict[str, Any]:
        """Return what `trainer_state.json` of a checkpoint keeps."""
        pending = {str(draw): spreads for draw, spreads in self._pending.items()}
        return {"args": {}, "attributes": {"weights": dict(self._weights), "pending": pending}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on with the state of the checkpoint."""
        saved = state.stateful_callbacks[type(self).__name__]["attributes"]
        self._weights = dict(saved["weights"])
        self._pending = {int(draw): dict(spreads) for draw, spreads in saved["pending"].items()}
        self._drawn = {}

    def _learn(self, spreads: Mapping[str, float]) -> None:
        for name, spread in spreads.items():
            before = self._weights.get(name, 1.0)
            self._weights[name] = MEMORY * before + (1 - MEMORY) * spread

    def _draw(self, rng: random.Random) -> list[str]:
        """Draw tasks without replacement, each in proportion to its weight.

        By Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
        """
        chosen: list[str] = []
        while len(chosen) < self._per_draw:
            keys = {
                name: math.log(rng.random() or sys.float_info.min)
                / (self._parts[name] * max(self._weights.get(name, 1.0), LEAST))
                for name in self._task_ids
            }
            ordered = sorted(keys, key=keys.__getitem__, reverse=True)
            chosen += ordered[: self._per_draw - len(chosen)]
        return chosen
