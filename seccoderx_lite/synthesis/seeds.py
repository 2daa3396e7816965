"""Seeds: vulnerable code from any source, each once, in a random order, on disk."""

import hashlib
import json
import logging
import os
import sqlite3
from collections import Counter
from pathlib import Path

from seccoderx_lite import cwe
from seccoderx_lite.datasets import iter_vulnerable
from seccoderx_lite.errors import DataError
from seccoderx_lite.records import Json, LabelledCode
from seccoderx_lite.synth_recipe import SynthRecipe
from seccoderx_lite.synthesis.asking import seed_of
from seccoderx_lite.synthesis.lines import AnyFolder

logger = logging.getLogger(__name__)

SEEDS = "seeds.jsonl"


def gather(recipe: SynthRecipe, folder: AnyFolder) -> dict[str, Json]:
    """Write seeds.jsonl and return what there is to tell: counts by weakness, and drops by reason.

    The order is random, so that a limit takes a sample and a cap is not filled by the first file.

    Raises:
        DataError: no row can be used.
    """
    place = folder.path / ".seeds.tmp"
    dropped: Counter[str] = Counter()
    place.unlink(missing_ok=True)
    database = sqlite3.connect(place, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=OFF")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("CREATE TABLE seeds (rank INTEGER, id TEXT PRIMARY KEY, data TEXT)")
        database.execute("BEGIN")
        _fill(database, recipe, dropped)
        per_cwe = _write(database, recipe, folder)
    finally:
        database.close()
        place.unlink(missing_ok=True)
    if dropped:
        told = ", ".join(f"{reason} ({count})" for reason, count in dropped.most_common())
        logger.info("%s: left out %d rows: %s", recipe.seeds.data, dropped.total(), told)
    if not per_cwe:
        raise DataError(f"{recipe.seeds.data}: no row can be a seed: {dict(dropped)}")
    return {"seeds": per_cwe.total(), "per_cwe": _by_number(per_cwe), "dropped": dict(dropped)}


def _fill(database: sqlite3.Connection, recipe: SynthRecipe, dropped: Counter[str]) -> None:
    settings = recipe.seeds

    def left_out(place: str, reason: str) -> None:
        dropped[reason] += 1

    for code in iter_vulnerable(settings.data, settings.split, left_out):
        if not code.cwe:
            dropped["no CWE"] += 1
        elif len(code.code) > settings.max_code_chars:
            dropped["code is too long"] += 1
        else:
            seed = _seed(code)
            row = (seed_of(recipe.seed, seed["id"]), seed["id"], json.dumps(seed))
            if not database.execute("INSERT OR IGNORE INTO seeds VALUES (?, ?, ?)", row).rowcount:
                dropped["same code as another seed"] += 1


def _seed(code: LabelledCode) -> dict[str, Json]:
    """A seed has one weakness: the first that the catalogue describes."""
    described = [id_ for id_ in code.cwe if cwe.get(id_).description]
    target = (described or list(code.cwe))[0]
    text = "\0".join((code.language, target, code.code))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    cve = code.extra.get("cve") or code.extra.get("cve_id")
    return {
        "id": digest[:16], "code": code.code, "language": code.language, "cwe": target,
        "cve": str(cve) if cve else None,
    }  # fmt: skip


def _write(database: sqlite3.Connection, recipe: SynthRecipe, folder: AnyFolder) -> "Counter[str]":
    per_cwe: Counter[str] = Counter()
    target = Path(folder.path / SEEDS)
    temporary = target.with_name(f".{target.name}.tmp")
    rows = database.execute(
        "SELECT data FROM seeds ORDER BY rank, id LIMIT ?", (recipe.seeds.limit or -1,)
    )
    with temporary.open("w", encoding="utf-8") as file:
        for (data,) in rows:
            file.write(data + "\n")
            per_cwe[json.loads(data)["cwe"]] += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    return per_cwe


def _by_number(counts: Counter[str]) -> dict[str, Json]:
    return {id_: counts[id_] for id_ in cwe.in_order([counts])}
