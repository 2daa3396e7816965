"""Replies of the generator, and their cache on disk, so that no prompt is paid for twice."""

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.records import Json


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply to one prompt, with its tokens and cost."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A prompt that gets no reply, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What the replies of a synthesis took in all."""

    replies: int
    input_tokens: int
    output_tokens: int
    cost: float


class ReplyCache:
    """Replies in an SQLite file, by key. It is outside the run folder: `--fresh` keeps it."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            RunFolderError: the file is not a cache of replies.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, "
                "input_tokens INTEGER, output_tokens INTEGER, cost REAL) "
                "WITHOUT ROWID"
            )
            self._totals = list(
                self._file.execute(
                    "SELECT COUNT(text), SUM(input_tokens), SUM(output_tokens), SUM(cost) "
                    "FROM replies"
                ).fetchone()
            )
        except sqlite3.Error as error:
            raise RunFolderError(f"{path} is not a usable cache of replies: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def get(self, key: str) -> Reply | None:
        row = self._file.execute(
            "SELECT text, input_tokens, output_tokens, cost FROM replies WHERE key = ?", (key,)
        ).fetchone()
        return Reply(*row) if row else None

    def keep(self, key: str, reply: Reply) -> None:
        """Store a reply; it is in the file when this returns."""
        self._insert(key, reply.text, reply)

    def keep_cost(self, reply: Reply) -> None:
        """Store what a reply without text cost: it answers nothing, but it is paid for."""
        self._insert(f"useless {uuid.uuid4().hex}", None, reply)

    def _insert(self, key: str, text: str | None, reply: Reply) -> None:
        numbers = (reply.input_tokens, reply.output_tokens, reply.cost)
        self._file.execute(
            "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)", (key, text, *numbers)
        )
        new = (text is not None, *numbers)
        self._totals = [(old or 0) + more for old, more in zip(self._totals, new, strict=True)]

    def usage(self) -> Usage:
        """Return the number of replies with text, and tokens and cost of all replies."""
        count, input_tokens, output_tokens, cost = (value or 0 for value in self._totals)
        return Usage(count, input_tokens, output_tokens, round(cost, 6))


def key_of(request: Sequence[Json]) -> str:
    """Return the cache key of a request: plain data with everything that may change the reply."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
