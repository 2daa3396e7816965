"""Splits of the seeds: relatives share one, so that no evaluation task has a twin in training.

Seeds are relatives if they have one origin (a commit, a CVE, or a value of the column `group`) or
nearly the same code; relatives of relatives are relatives too.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.duplicates import NearDuplicates, remove_index
from seccoderx_lite.recipe.synth import SplitsRecipe

NEAR = 0.7
"""Code with at least this word-triple similarity (Jaccard) is nearly the same."""
_ORIGIN = ("group", "commit_link", "commit_url", "commit_id", "cve", "cve_id")
_NO_ORIGIN = ("", "none", "nan", "null", "n/a", "unknown")
_HEAD_START = 0.6
"""Seeds that the small splits lack from the start, so that a small set has all splits too."""


def origins_of(columns: Mapping[str, Json]) -> list[str]:
    """Return the origins that the columns of a row name.

    >>> origins_of({"group": "app/login", "cve": "None", "size": 3})
    ['group app/login']
    """
    named = {name: str(columns[name]).strip() for name in _ORIGIN if columns.get(name) is not None}
    return [f"{name} {text}" for name, text in named.items() if text.lower() not in _NO_ORIGIN]


def assign_splits(database: sqlite3.Connection, index: Path, splits: SplitsRecipe) -> None:
    """Create the view `splits (id, split)` for the table `seeds (rank, id, data, origins)`.

    Relatives are found in the order of rank; `index` is a temporary file.
    """
    database.execute("CREATE TABLE members (id TEXT PRIMARY KEY, family TEXT)")
    database.execute("CREATE INDEX families ON members (family)")
    database.execute("CREATE TABLE origins (origin TEXT PRIMARY KEY, id TEXT)")
    remove_index(index)
    twins = NearDuplicates(index, NEAR)
    try:
        twins.begin()
        rows = database.execute("SELECT id, data, origins FROM seeds ORDER BY rank, id")
        for position, (id_, data, origins) in enumerate(rows):
            _join(database, twins, position, id_, json.loads(data), json.loads(origins))
        twins.commit()
    finally:
        twins.close()
        remove_index(index)
    database.execute("CREATE TABLE of_family (family TEXT PRIMARY KEY, split TEXT)")
    sizes = database.execute(
        "SELECT family, COUNT(*) FROM members JOIN seeds USING (id) "
        "GROUP BY family ORDER BY MIN(rank), family"
    )
    database.executemany("INSERT INTO of_family VALUES (?, ?)", draw_split(sizes, splits))
    database.execute(
        "CREATE VIEW splits AS SELECT id, split FROM members JOIN of_family USING (family)"
    )


def _join(
    database: sqlite3.Connection,
    twins: NearDuplicates,
    position: int,
    id_: str,
    seed: Mapping[str, Json],
    origins: list[str],
) -> None:
    """Put a seed into the family of its relatives, merging their families, or into a new one."""
    sketch = twins.sketch(seed["language"], seed["code"])
    relatives = [twin] if (twin := twins.find(sketch)) else []
    if not relatives:
        twins.add(position, id_, sketch)
    for origin in origins:
        known = database.execute("SELECT id FROM origins WHERE origin = ?", (origin,)).fetchone()
        if known:
            relatives += known
        else:
            database.execute("INSERT INTO origins VALUES (?, ?)", (origin, id_))
    places = ",".join("?" * len(relatives))
    found = database.execute(
        f"SELECT DISTINCT family FROM members WHERE id IN ({places})", relatives
    ).fetchall()
    family = min(found)[0] if found else id_
    for (other,) in found:
        if other != family:
            database.execute("UPDATE members SET family = ? WHERE family = ?", (family, other))
    database.execute("INSERT INTO members VALUES (?, ?)", (id_, family))


def draw_split(sizes: Iterable[tuple[str, int]], splits: SplitsRecipe) -> Iterator[tuple[str, str]]:
    """Yield each family with its split: the one that lacks the most seeds.

    >>> families = [(str(n), 1) for n in range(6)]
    >>> [split for _, split in draw_split(families, SplitsRecipe())]
    ['train', 'held_out', 'train', 'train', 'train', 'validation']
    """
    shares = {
        "train": 1 - splits.validation - splits.held_out,
        "held_out": splits.held_out,
        "validation": splits.validation,
    }
    lacking = {name: 0.0 if name == "train" else _HEAD_START for name, s in shares.items() if s}
    for family, size in sizes:
        for name in lacking:
            lacking[name] += shares[name] * size
        most = max(lacking, key=lacking.__getitem__)
        lacking[most] -= size
        yield family, most
