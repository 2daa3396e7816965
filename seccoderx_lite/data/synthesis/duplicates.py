"""Find near-duplicates among any number of texts; memory does not grow with their number.

MinHash with locality-sensitive hashing (Broder 1997; Leskovec et al., "Mining of Massive Datasets",
chapter 3) by datasketch finds candidates; the exact Jaccard similarity of the word triples decides.
datasketch keeps its index in memory or in a Redis server, so the index here is our own: the bands
are rows of an SQLite file.
"""

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

PERMUTATIONS = 128
_AVOID_MISSES = 0.98
"""Weight of misses against false candidates, which the exact similarity removes."""
_CACHE_KIB = 16_384
Shingles: TypeAlias = "npt.NDArray[np.uint32]"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Sketch:
    """What the index stores of a text."""

    shingles: Shingles
    bands: tuple[int, ...]
    """Hashes of the parts of its MinHash; near-duplicates very likely share one of them."""


class NearDuplicates:
    """An index on disk of the texts that were kept, ordered by `position`."""

    def __init__(self, path: Path, threshold: float) -> None:
        """Open or create the index; similarity of at least `threshold` in (0, 1] is a duplicate."""
        self._threshold = threshold
        weights = (1 - _AVOID_MISSES, _AVOID_MISSES)
        lsh = MinHashLSH(min(threshold, 0.99), num_perm=PERMUTATIONS, weights=weights)
        self._bands, self._rows = lsh.b, lsh.r
        self._empty = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=OFF")  # an index lost in a crash is rebuilt
        self._file.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS texts (position INTEGER PRIMARY KEY, id TEXT, "
            "shingles BLOB)"
        )
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS bands (hash INTEGER, position INTEGER, "
            "PRIMARY KEY (hash, position)) WITHOUT ROWID"
        )

    def count(self) -> int:
        count: int = self._file.execute("SELECT COUNT(*) FROM texts").fetchone()[0]
        return count

    def close(self) -> None:
        self._file.close()

    def forget_from(self, position: int) -> None:
        """Remove the texts at this position and after."""
        self._file.execute("DELETE FROM texts WHERE position >= ?", (position,))
        self._file.execute("DELETE FROM bands WHERE position >= ?", (position,))

    def begin(self) -> None:
        self._file.execute("BEGIN")

    def commit(self) -> None:
        self._file.execute("COMMIT")

    def sketch(self, group: str, text: str) -> Sketch:
        """Return the sketch of a text; only texts of one group are compared."""
        shingles = shingles_of(text)
        minhash = self._empty.copy()
        minhash.update_batch(shingles.tolist())
        return Sketch(shingles, tuple(self._hashes(group, minhash.hashvalues)))

    def find(self, sketch: Sketch) -> str | None:
        """Return the id of the first kept text that is a near-duplicate."""
        places = ",".join("?" * self._bands)
        rows = self._file.execute(
            "SELECT id, shingles FROM texts WHERE position IN "
            f"(SELECT position FROM bands WHERE hash IN ({places})) ORDER BY position",
            sketch.bands,
        )
        for id_, blob in rows:
            if jaccard(sketch.shingles, np.frombuffer(blob, np.uint32)) >= self._threshold:
                return str(id_)
        return None

    def add(self, position: int, id_: str, sketch: Sketch) -> None:
        self._file.execute(
            "INSERT INTO texts VALUES (?, ?, ?)", (position, id_, sketch.shingles.tobytes())
        )
        self._file.executemany(
            "INSERT OR IGNORE INTO bands VALUES (?, ?)", [(band, position) for band in sketch.bands]
        )

    def _hashes(self, group: str, values: "npt.NDArray[np.unsignedinteger]") -> Iterator[int]:
        for band in range(self._bands):
            part = values[band * self._rows : (band + 1) * self._rows].tobytes()
            digest = hashlib.blake2b(part, digest_size=8, key=f"{group}/{band}".encode()).digest()
            yield int.from_bytes(digest, "big", signed=True)


def remove_index(path: Path) -> None:
    """Delete the files of a closed index."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def shingles_of(text: str) -> Shingles:
    """Return the distinct hashes of a text's word triples, ascending; case is ignored."""
    words = [word.lower() for word in _WORD.findall(text)]
    triples = {" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2))}
    digests = (hashlib.blake2b(triple.encode(), digest_size=4).digest() for triple in triples)
    return np.unique(np.frombuffer(b"".join(digests), np.uint32))


def jaccard(first: Shingles, second: Shingles) -> float:
    """Return the size of the intersection divided by that of the union, in [0, 1].

    >>> jaccard(shingles_of("a b c d"), shingles_of("a b c e"))
    0.3333333333333333
    """
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / (len(first) + len(second) - both)
