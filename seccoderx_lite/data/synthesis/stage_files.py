"""The JSON-lines file of a stage: written chunk by chunk, one line per item, and resumable.

A killed stage resumes at the chunk it was in. Chunks always start at the same items, so a batch is
generated with the same members again, and the result equals that of an uninterrupted run. Only one
chunk is in memory.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from seccoderx_lite.core.records import Json
from seccoderx_lite.run import stopping
from seccoderx_lite.run.folder import RunFolder

Line = dict[str, Json]
"""One line of a file. A line with the key `dropped`, the reason, goes no further."""
AnyFolder = RunFolder[Any]
Item = TypeVar("Item")


def process_in_chunks(
    folder: AnyFolder,
    name: str,
    items: Iterable[Item],
    work: Callable[[int, list[Item]], list[Line]],
    chunk: int,
    on_chunk: Callable[[int], None],
) -> None:
    """Append to a file the lines that `work` makes of the items, in order.

    Args:
        folder: the run folder.
        name: the file; items whose lines it already has are skipped.
        items: all items, including those already done.
        work: makes one line per item; gets the number of the chunk's first item, and the chunk.
        chunk: items per chunk.
        on_chunk: called after each chunk with the number of items done.
    """
    done = _keep_whole_chunks(folder, name, chunk)
    rest = itertools.islice(items, done, None)
    while part := list(itertools.islice(rest, chunk)):
        for line in work(done, part):
            folder.append_jsonl(name, line)
        done += len(part)
        on_chunk(done)
        stopping.check(f"after {done} records of {name}")
    if not (folder.path / name).exists():
        folder.write_text(name, "")


def _keep_whole_chunks(folder: AnyFolder, name: str, chunk: int) -> int:
    """Cut the file after its last whole chunk; return how many lines remain."""
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


def passed(folder: AnyFolder, name: str) -> Iterator[Line]:
    """Yield the lines of a stage's file that were not dropped."""
    return (line for line in folder.read_jsonl(name) if "dropped" not in line)


def count_passed(folder: AnyFolder, name: str) -> int:
    return sum(1 for _ in passed(folder, name))
