"""Every reply of the generator, kept on disk by what was asked, so that nothing is paid twice."""

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.endpoint import Reply


class Replies:
    """A file of replies; it outlives the run folder, so that `--fresh` does not pay again."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it.

        Raises:
            RunFolderError: this is no file of replies.
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
            raise RunFolderError(f"{path} is no usable file of replies: {error}") from error

    def __enter__(self) -> "Replies":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def get(self, key: str) -> Reply | None:
        """Return what is kept under a key, None without."""
        row = self._file.execute(
            "SELECT text, input_tokens, output_tokens, cost FROM replies WHERE key = ?", (key,)
        ).fetchone()
        return Reply(*row) if row else None

    def keep(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is on its way to the disk when this returns."""
        self._insert(key, reply.text, reply)

    def keep_cost(self, reply: Reply) -> None:
        """Keep what a reply without text took: it answers nothing, but it is paid."""
        self._insert(f"useless {uuid.uuid4().hex}", None, reply)

    def _insert(self, key: str, text: str | None, reply: Reply) -> None:
        numbers = (reply.input_tokens, reply.output_tokens, reply.cost)
        self._file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)",
                           (key, text, *numbers))  # fmt: skip
        new = (text is not None, *numbers)
        self._totals = [(old or 0) + more for old, more in zip(self._totals, new, strict=True)]

    def totals(self) -> dict[str, Json]:
        """Return the number of replies kept, and tokens and cost of all that came."""
        count, input_tokens, output_tokens, cost = (value or 0 for value in self._totals)
        return {
            "replies": count,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost": round(cost, 6),
        }


def key_of(asked: Sequence[Json]) -> str:
    """Return the key of what was asked: all that may change a reply, as plain data."""
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
