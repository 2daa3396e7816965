"""Scores what several threads ask for at about the same time as one batch."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Score = TypeVar("Score")

GATHERING_S = 0.05
"""How long a batch waits for more items; a verdict takes longer."""


@dataclass
class _Asked(Generic[Item, Score]):
    item: Item
    score: Score | None = None
    error: Exception | None = None
    is_done: bool = False


class Gatherer(Generic[Item, Score]):
    """Calls a function of a batch for items that come one at a time; one batch runs at a time."""

    def __init__(self, score_all: Callable[[list[Item]], list[Score]]) -> None:
        self._score_all = score_all
        self._waiting: list[_Asked[Item, Score]] = []
        self._queue = threading.Lock()
        self._turn = threading.Lock()

    def score(self, item: Item) -> Score:
        """Return the score of an item, computed together with those of other threads.

        Raises:
            Exception: what the function raised for the batch.
        """
        asked: _Asked[Item, Score] = _Asked(item)
        with self._queue:
            self._waiting.append(asked)
        with self._turn:
            if not asked.is_done:
                time.sleep(GATHERING_S)
                self._score_waiting()
        if asked.error:
            raise asked.error
        assert asked.score is not None
        return asked.score

    def _score_waiting(self) -> None:
        with self._queue:
            batch, self._waiting = self._waiting, []
        try:
            scores = self._score_all([asked.item for asked in batch])
            for asked, score in zip(batch, scores, strict=True):
                asked.score = score
        except Exception as error:
            for asked in batch:
                asked.error = error
        for asked in batch:
            asked.is_done = True
