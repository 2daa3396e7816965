"""Verdicts stored in a file between runs; the cache key is the judge's identity and the prompt."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Verdict


class VerdictCache:
    """A file of verdicts that several processes can share and that survives a power failure."""

    def __init__(self, file: Path, identity: str) -> None:
        """Open or create the file.

        Args:
            file: An SQLite database.
            identity: Must differ between judges that could answer the same prompt differently: it
                names the base, the adapter's weights and the mode.

        Raises:
            DataError: the file is not a verdict cache, or cannot be written.
        """
        self._file = file
        self._identity = identity
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, timeout=60, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL)"
            )
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"judge.cache: {file} is not a verdict cache or cannot be written ({error}); give "
                "another file, or remove judge.cache"
            ) from error

    def get(self, prompt: str) -> Verdict | None:
        """Return this judge's verdict on the prompt, or None if it is not stored."""
        row = self._database.execute(
            "SELECT verdict FROM verdicts WHERE key = ?", (self._key(prompt),)
        ).fetchone()
        return Verdict(**json.loads(row[0])) if row else None

    def put(self, verdicts: Mapping[str, Verdict]) -> None:
        """Store verdicts by their prompts."""
        rows = [(self._key(prompt), json.dumps(asdict(v))) for prompt, v in verdicts.items()]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", rows)

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(f"{self._identity}\0{prompt}".encode("utf-8", "replace")).hexdigest()
