"""Seeds: vulnerable code from any source, each once, in a random order and a split, on disk."""

import hashlib
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, LabelledCode
from seccoderx_lite.data.loading import iter_vulnerable
from seccoderx_lite.data.synthesis.asking import seed_of
from seccoderx_lite.data.synthesis.lines import AnyFolder, Record
from seccoderx_lite.data.synthesis.splits import assign_splits, origins_of
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run.files import write_jsonl

logger = logging.getLogger(__name__)

SEEDS, DROPS = "seeds.jsonl", "seed_drops.jsonl"


def gather(recipe: SynthRecipe, folder: AnyFolder) -> dict[str, Json]:
    """Write seeds.jsonl and return what there is to tell: counts by weakness, and drops by reason.

    The order is random, so that a limit takes a sample and a cap is not filled by the first file.
    Rows that were left out are in seed_drops.jsonl, each with its place and the reason.

    Raises:
        DataError: no row can be used.
    """
    place = folder.path / ".seeds.tmp"
    place.unlink(missing_ok=True)
    per_cwe: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    database = sqlite3.connect(place, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=OFF")
        database.execute("PRAGMA synchronous=OFF")
        database.execute(
            "CREATE TABLE seeds (rank INTEGER, id TEXT PRIMARY KEY, data TEXT, origins TEXT)"
        )
        database.execute("CREATE TABLE drops (place TEXT, reason TEXT)")
        database.execute("BEGIN")
        _fill(database, recipe)
        if limit := recipe.seeds.limit:
            database.execute(
                "DELETE FROM seeds WHERE id NOT IN "
                "(SELECT id FROM seeds ORDER BY rank, id LIMIT ?)",
                (limit,),
            )
        assign_splits(database, folder.path / ".relatives.tmp", recipe.splits)
        write_jsonl(folder.path / SEEDS, _drawn(database, per_cwe))
        write_jsonl(folder.path / DROPS, _left_out(database, dropped))
    finally:
        database.close()
        place.unlink(missing_ok=True)
    told = ", ".join(f"{reason} ({count})" for reason, count in dropped.most_common())
    if dropped:
        logger.info("%s: left out %d rows: %s", recipe.seeds.data, dropped.total(), told)
    if not per_cwe:
        raise DataError(
            f"{recipe.seeds.data}: no row can be a seed: {told or 'none is vulnerable'}"
        )
    counts = {id_: per_cwe[id_] for id_ in cwe.in_order([per_cwe])}
    return {"seeds": per_cwe.total(), "per_cwe": counts, "dropped": dict(dropped.most_common())}


def _fill(database: sqlite3.Connection, recipe: SynthRecipe) -> None:
    settings = recipe.seeds

    def leave_out(place: str, reason: str) -> None:
        database.execute("INSERT INTO drops VALUES (?, ?)", (place, reason))

    for place, code in iter_vulnerable(settings.data, settings.split, leave_out):
        if not code.cwe:
            leave_out(place, "no CWE")
        elif len(code.code) > settings.max_code_chars:
            leave_out(place, "code is too long")
        else:
            seed = _seed(code)
            origins = json.dumps(origins_of(code.extra))
            row = (seed_of(recipe.seed, seed["id"]), seed["id"], json.dumps(seed), origins)
            new = database.execute("INSERT OR IGNORE INTO seeds VALUES (?, ?, ?, ?)", row)
            if not new.rowcount:
                leave_out(place, "same code as another seed")


def _drawn(database: sqlite3.Connection, per_cwe: "Counter[str]") -> Iterator[Record]:
    """Yield the seeds in their random order, counted by weakness."""
    rows = database.execute(
        "SELECT data, split FROM seeds JOIN splits USING (id) ORDER BY rank, id"
    )
    for data, split in rows:
        seed: Record = {**json.loads(data), "split": split}
        per_cwe[seed["cwe"]] += 1
        yield seed


def _left_out(database: sqlite3.Connection, dropped: "Counter[str]") -> Iterator[Record]:
    for place, reason in database.execute("SELECT place, reason FROM drops"):
        dropped[reason] += 1
        yield {"place": place, "reason": reason}


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
