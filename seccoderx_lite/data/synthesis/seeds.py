"""The stage `seeds`: vulnerable code, each piece once, in random order, with its split."""

import hashlib
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, LabelledCode, Language
from seccoderx_lite.data.loading import iter_vulnerable
from seccoderx_lite.data.synthesis.draws import draw_seed
from seccoderx_lite.data.synthesis.splits import assign_splits, origins_of
from seccoderx_lite.data.synthesis.stage_files import AnyFolder, Line
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run.files import write_jsonl

logger = logging.getLogger(__name__)

SEEDS, DROPS = "seeds.jsonl", "seed_drops.jsonl"


@dataclass(frozen=True, slots=True)
class Seed:
    """One line of seeds.jsonl."""

    id: str
    code: str
    language: Language
    cwe: str
    cve: str | None
    split: str


def read_seeds(folder: AnyFolder) -> Iterator[Seed]:
    return (Seed(**line) for line in folder.read_jsonl(SEEDS))


def with_seed(folder: AnyFolder, lines: Iterable[Line]) -> Iterator[tuple[Seed, Line]]:
    """Yield each line with its seed; lines must be in the order of their seeds."""
    seeds = read_seeds(folder)
    seed = None
    for line in lines:
        while seed is None or seed.id != line["seed"]:
            seed = next(seeds)
        yield seed, line


def gather(recipe: SynthRecipe, folder: AnyFolder) -> dict[str, Json]:
    """Write seeds.jsonl; return the number of seeds, per weakness too, and of drops per reason.

    The order is random, so that a limit takes a sample and a cap is not used up by the first file.
    Rows that were left out are in seed_drops.jsonl, each with its place and the reason. All rows
    pass through a temporary database: memory does not grow with them.

    Raises:
        DataError: no row can be used.
    """
    file = folder.path / ".seeds.tmp"
    file.unlink(missing_ok=True)
    per_cwe: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            _fill(database, recipe)
            assign_splits(database, folder.path / ".relatives.tmp", recipe.splits)
            write_jsonl(folder.path / SEEDS, _drawn(database, per_cwe))
            write_jsonl(folder.path / DROPS, _left_out(database, dropped))
    finally:
        file.unlink(missing_ok=True)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in dropped.most_common())
    if dropped:
        logger.info("%s: left out %d rows: %s", recipe.seeds.data, dropped.total(), reasons)
    if not per_cwe:
        raise DataError(
            f"{recipe.seeds.data}: no row can be a seed: {reasons or 'none is vulnerable'}"
        )
    counts = {id_: per_cwe[id_] for id_ in cwe.in_order([per_cwe])}
    return {"seeds": per_cwe.total(), "per_cwe": counts, "dropped": dict(dropped.most_common())}


def _fill(database: sqlite3.Connection, recipe: SynthRecipe) -> None:
    """Create the tables `seeds`, up to the recipe's limit, and `drops`."""
    for statement in (
        "PRAGMA journal_mode=OFF",
        "PRAGMA synchronous=OFF",
        "CREATE TABLE seeds (rank INTEGER, id TEXT PRIMARY KEY, data TEXT, origins TEXT)",
        "CREATE TABLE drops (place TEXT, reason TEXT)",
        "BEGIN",
    ):
        database.execute(statement)
    settings = recipe.seeds

    def leave_out(place: str, reason: str) -> None:
        database.execute("INSERT INTO drops VALUES (?, ?)", (place, reason))

    for place, code in iter_vulnerable(settings.data, settings.split, leave_out):
        if not code.cwe:
            leave_out(place, "no CWE")
        elif len(code.code) > settings.max_code_chars:
            leave_out(place, "code is too long")
        else:
            data = _seed_data(code)
            origins = json.dumps(origins_of(code.extra))
            row = (draw_seed(recipe.seed, data["id"]), data["id"], json.dumps(data), origins)
            new = database.execute("INSERT OR IGNORE INTO seeds VALUES (?, ?, ?, ?)", row)
            if not new.rowcount:
                leave_out(place, "same code as another seed")
    if settings.limit:
        database.execute(
            "DELETE FROM seeds WHERE id NOT IN (SELECT id FROM seeds ORDER BY rank, id LIMIT ?)",
            (settings.limit,),
        )


def _drawn(database: sqlite3.Connection, per_cwe: "Counter[str]") -> Iterator[Line]:
    """Yield the seeds in their random order, and count them per weakness."""
    rows = database.execute(
        "SELECT data, split FROM seeds JOIN splits USING (id) ORDER BY rank, id"
    )
    for data, split in rows:
        seed = Seed(**json.loads(data), split=split)
        per_cwe[seed.cwe] += 1
        yield asdict(seed)


def _left_out(database: sqlite3.Connection, dropped: "Counter[str]") -> Iterator[Line]:
    for place, reason in database.execute("SELECT place, reason FROM drops"):
        dropped[reason] += 1
        yield {"place": place, "reason": reason}


def _seed_data(code: LabelledCode) -> dict[str, Json]:
    """Return a seed's fields but the split; its weakness is the first that the catalogue has."""
    described = [id_ for id_ in code.cwe if cwe.get(id_).description]
    target = (described or list(code.cwe))[0]
    text = "\0".join((code.language, target, code.code))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    cve = code.extra.get("cve") or code.extra.get("cve_id")
    return {
        "id": digest[:16],
        "code": code.code,
        "language": code.language,
        "cwe": target,
        "cve": str(cve) if cve else None,
    }
