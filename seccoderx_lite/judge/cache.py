"""Verdicts stored in a file between runs; the cache key is the judge's identity and the prompt."""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from seccoderx_lite.core.records import Verdict
from seccoderx_lite.judge.verdict import stored_verdict

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_WAIT_S = 10
"""Longest wait for another process that is writing."""


class VerdictCache:
    """A file of verdicts that several processes can share and that survives a power failure.

    A file that is locked, full or not a verdict cache costs time, not the work: one warning, and
    the judge goes on without it.
    """

    def __init__(self, file: Path, identity: str) -> None:
        """Open or create the file.

        Args:
            file: An SQLite database.
            identity: Must differ between judges that could answer the same prompt differently: it
                names the base, the adapter's weights and the mode.
        """
        self._file = file
        self._identity = identity
        self._database: sqlite3.Connection | None = None
        self._database = self._try(self._open, None)

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._file, timeout=_WAIT_S, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL)"
        )
        return database

    def get(self, prompt: str) -> Verdict | None:
        """Return this judge's verdict on the prompt, or None if it is not stored."""
        return self._try(lambda: self._read(prompt), None) if self._database else None

    def _read(self, prompt: str) -> Verdict | None:
        assert self._database is not None
        row = self._database.execute(
            "SELECT verdict FROM verdicts WHERE key = ?", (self._key(prompt),)
        ).fetchone()
        return stored_verdict(json.loads(row[0])) if row else None

    def put(self, verdicts: Mapping[str, Verdict]) -> None:
        """Store verdicts by their prompts."""
        rows = [(self._key(prompt), json.dumps(asdict(v))) for prompt, v in verdicts.items()]
        if self._database:
            self._try(lambda: self._write(rows), None)

    def _write(self, rows: list[tuple[str, str]]) -> None:
        assert self._database is not None
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", rows)

    def _try(self, action: Callable[[], Result], otherwise: Result) -> Result:
        """Return what the action returns; if it fails, say so and do without the file from then."""
        try:
            return action()
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            logger.warning(
                "judge.cache: %s is not a verdict cache, or is locked or cannot be written (%s); "
                "going on without it: give another file, or remove judge.cache",
                self._file,
                error,
            )
            self._database = None
            return otherwise

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(f"{self._identity}\0{prompt}".encode("utf-8", "replace")).hexdigest()
