"""Near-duplicates among any number of prompts, in memory that does not grow with them.

MinHash with locality-sensitive hashing (Broder 1997; Leskovec et al., "Mining of Massive Datasets",
chapter 3) by datasketch finds candidates, the exact Jaccard similarity of the word triples decides.
datasketch's own index lives in memory or in a Redis server; here the bands are rows of an SQLite
file, and only the lookup is ours.
"""

import hashlib
import re
import sqlite3
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

PERMUTATIONS = 128
_AVOID_MISSES = 0.98
"""Weight of misses against false candidates: the exact similarity weeds those out."""
_CACHE_KIB = 16_384
Shingles: TypeAlias = "npt.NDArray[np.uint32]"
_WORD = re.compile(r"\w+")


class NearDuplicates:
    """An index on disk of the prompts that were kept; `position` orders them."""

    def __init__(self, path: Path, threshold: float) -> None:
        """Open or create the index; two texts are near-duplicates from `threshold` in (0, 1] on."""
        self._threshold = threshold
        weights = (1 - _AVOID_MISSES, _AVOID_MISSES)
        lsh = MinHashLSH(min(threshold, 0.99), num_perm=PERMUTATIONS, weights=weights)
        self._bands, self._rows = lsh.b, lsh.r
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=OFF")  # lost with the machine: then it is remade
        self._file.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS prompts (position INTEGER PRIMARY KEY, id TEXT, "
            "shingles BLOB)"
        )
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS bands (hash INTEGER, position INTEGER, "
            "PRIMARY KEY (hash, position)) WITHOUT ROWID"
        )

    def count(self) -> int:
        """Return how many prompts it holds."""
        count: int = self._file.execute("SELECT COUNT(*) FROM prompts").fetchone()[0]
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def forget_from(self, position: int) -> None:
        """Drop the prompts from a position on."""
        self._file.execute("DELETE FROM prompts WHERE position >= ?", (position,))
        self._file.execute("DELETE FROM bands WHERE position >= ?", (position,))

    def begin(self) -> None:
        """Begin a batch of additions."""
        self._file.execute("BEGIN")

    def commit(self) -> None:
        """End a batch of additions."""
        self._file.execute("COMMIT")

    def find(self, group: str, text: str) -> str | None:
        """Return the id of the first kept prompt of a group that is a near-duplicate."""
        shingles = shingles_of(text)
        places = ",".join("?" * self._bands)
        rows = self._file.execute(
            "SELECT id, shingles FROM prompts WHERE position IN "
            f"(SELECT position FROM bands WHERE hash IN ({places})) ORDER BY position",
            self._hashes(group, shingles),
        )
        for id_, blob in rows:
            if jaccard(shingles, np.frombuffer(blob, np.uint32)) >= self._threshold:
                return str(id_)
        return None

    def add(self, position: int, group: str, id_: str, text: str) -> None:
        """Add a prompt that is kept."""
        shingles = shingles_of(text)
        self._file.execute(
            "INSERT INTO prompts VALUES (?, ?, ?)", (position, id_, shingles.tobytes())
        )
        self._file.executemany(
            "INSERT OR IGNORE INTO bands VALUES (?, ?)",
            [(band, position) for band in self._hashes(group, shingles)],
        )

    def _hashes(self, group: str, shingles: Shingles) -> list[int]:
        sketch = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
        sketch.update_batch(shingles.tolist())
        values = sketch.hashvalues
        hashes = []
        for band in range(self._bands):
            part = values[band * self._rows : (band + 1) * self._rows].tobytes()
            digest = hashlib.blake2b(part, digest_size=8, key=f"{group}/{band}".encode()).digest()
            hashes.append(int.from_bytes(digest, "big", signed=True))
        return hashes


def shingles_of(text: str) -> Shingles:
    """Return the hashes of a text's word triples, ascending, each once; case does not matter."""
    words = [word.lower() for word in _WORD.findall(text)]
    triples = {" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2))}
    digests = (hashlib.blake2b(triple.encode(), digest_size=4).digest() for triple in triples)
    return np.unique(np.frombuffer(b"".join(digests), np.uint32))


def jaccard(
    first: Shingles,
    second: Shingles,
) -> float:
    """Return the size of the intersection over that of the union, in [0, 1].

    >>> jaccard(shingles_of("a b c d"), shingles_of("a b c e"))
    0.3333333333333333
    """
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / (len(first) + len(second) - both)
