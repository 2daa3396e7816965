"""A stage as a walk over records: chunk by chunk, one line out for each record in.

A killed stage goes on at the chunk it was in. Chunks always begin at the same records, so that
what is generated in a batch is generated in the same batch again, and the result is the same as
that of a run which nothing interrupted. Only one chunk is in memory.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from seccoderx_lite.core.records import Json
from seccoderx_lite.run.folder import RunFolder

Record = dict[str, Json]
AnyFolder = RunFolder[Any]
Item = TypeVar("Item")


def walk(
    folder: AnyFolder,
    name: str,
    items: Iterable[Item],
    work: Callable[[int, list[Item]], list[Record]],
    chunk: int,
    on_chunk: Callable[[int], None],
) -> None:
    """Append to a file of the folder what `work` makes of the items, in their order.

    Args:
        folder: the run folder.
        name: the JSON-lines file; what it holds already is not made again.
        items: all items, those already done included.
        work: makes one record of each; is told the number of the chunk's first item.
        chunk: items worked on together.
        on_chunk: is told how many items are done.
    """
    done = _keep_whole_chunks(folder, name, chunk)
    rest = itertools.islice(items, done, None)
    while part := list(itertools.islice(rest, chunk)):
        made = work(done, part)
        for record in made:
            folder.append_jsonl(name, record)
        done += len(part)
        on_chunk(done)
    if not (folder.path / name).exists():
        folder.write_text(name, "")


def _keep_whole_chunks(folder: AnyFolder, name: str, chunk: int) -> int:
    """Cut the file after its last whole chunk; return how many records stay."""
    path = folder.path / name
    if not path.exists():
        return 0
    lines, end, kept, kept_end = 0, 0, 0, 0
    with path.open("rb") as file:
        for line in file:
            lines, end = lines + 1, end + len(line)
            if lines % chunk == 0:
                kept, kept_end = lines, end
    os.truncate(path, kept_end)
    return kept


def passed(folder: AnyFolder, name: str) -> Iterator[Record]:
    """Yield the records of a stage's file that were not dropped."""
    return (record for record in folder.read_jsonl(name) if "dropped" not in record)


def with_seed(folder: AnyFolder, records: Iterable[Record]) -> Iterator[tuple[Record, Record]]:
    """Yield (seed, record); records stand in the order of their seeds."""
    seeds = folder.read_jsonl("seeds.jsonl")
    seed: Record = {"id": None}
    for record in records:
        while seed["id"] != record["seed"]:
            seed = next(seeds)
        yield seed, record


def count_lines(folder: AnyFolder, name: str, *, only_passed: bool = True) -> int:
    """Return how many records a file holds."""
    records = passed(folder, name) if only_passed else folder.read_jsonl(name)
    return sum(1 for _ in records)
