"""Read the objects in a data file: JSON lines, JSON, parquet, or arrow as `datasets` saves it."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json

SUFFIXES = (".jsonl", ".parquet", ".arrow", ".json")
_ROWS = (
    "data", "rows", "examples", "tasks", "items", "records", "instances", "samples", "entries",
    "results", "problems", "dataset",
)  # fmt: skip
"""Names under which files keep their list of rows next to other values."""
_SPLITS = {"train", "training", "validation", "valid", "val", "dev", "test"}
_SPACE = re.compile(r"\s*")


def read_file(file: Path) -> Iterator[tuple[str, Json]]:
    """Yield each entry of a file with its place in the file.

    Raises:
        DataError: the file cannot be read, or is not of the format its name says.
    """
    try:
        read = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet, ".arrow": _arrow}
        if file.suffix.lower() not in read:
            raise DataError(f"{file}: the file name must end in {', '.join(SUFFIXES)}")
        yield from read[file.suffix.lower()](file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}; save it as UTF-8") from error
    except RecursionError as error:
        raise DataError(f"{file} is nested too deeply; give a file of rows") from error


def _jsonl(file: Path) -> Iterator[tuple[str, Json]]:
    """Yield the lines; a file that begins with a list, or part of an object, is not of lines."""
    with file.open(encoding="utf-8-sig") as lines:
        is_first = True
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
            except ValueError as error:
                if is_first and (entries := _try_whole(file)):
                    yield from entries
                    return
                raise DataError(
                    f"{file}, line {number}: not valid JSON: {error}; correct it"
                ) from error
            if is_first and isinstance(data, list):
                yield from _json(file)
                return
            is_first = False
            yield f"line {number}", data


def _try_whole(file: Path) -> list[tuple[str, Json]]:
    try:
        return list(_json(file))
    except DataError:
        return []


def _json(file: Path) -> Iterator[tuple[str, Json]]:
    """Yield the rows of a JSON file: its list, its objects, or what one object around them has."""
    text = file.read_text(encoding="utf-8-sig")
    values = list(_values(text, file))
    if len(values) > 1:
        for line, value in values:
            yield f"line {line}", value
    elif values:
        yield from _rows_of(values[0][1], file)


def _values(text: str, file: Path) -> Iterator[tuple[int, Json]]:
    """Yield the JSON values that a text has one after the other, with their first lines."""
    decoder = json.JSONDecoder()
    place, counted, line = _skip_space(text, 0), 0, 1
    while place < len(text):
        line += text.count("\n", counted, place)
        counted = place
        try:
            value, end = decoder.raw_decode(text, place)
        except ValueError as error:
            at = getattr(error, "lineno", line)
            message = getattr(error, "msg", str(error))
            raise DataError(f"{file}, line {at}: not valid JSON: {message}; correct it") from error
        yield line, value
        place = _skip_space(text, end)


def _skip_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _rows_of(data: Json, file: Path) -> Iterator[tuple[str, Json]]:
    """Yield the rows in the one value of a file.

    A list has them as entries. An object has them as a list under a usual name or under its only
    key, as one list per split, as one object per id, or is a row itself.
    """
    if isinstance(data, list):
        yield from _entries(data)
    elif not isinstance(data, Mapping):
        raise DataError(f"{file}: must contain a list of objects (got {data!r:.40})")
    elif lists := _lists_of_rows(data):
        for name, rows in lists.items():
            split = {"split": name} if len(lists) > 1 or name in _SPLITS else {}
            yield from _entries([{**split, **row} for row in rows], f"{name}, ")
    elif len(data) > 0 and all(isinstance(row, Mapping) for row in data.values()):
        for name, row in data.items():
            yield f"entry {name}", {"id": name, **row}
    else:
        yield "entry 1", data


def _entries(rows: list[Json], of: str = "") -> Iterator[tuple[str, Json]]:
    for number, row in enumerate(rows, start=1):
        yield f"{of}entry {number}", row


def _lists_of_rows(data: Mapping[str, Json]) -> dict[str, list[Json]]:
    lists = {
        name: value
        for name, value in data.items()
        if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value)
    }
    if len(lists) == len(data):
        return lists
    if splits := {name: rows for name, rows in lists.items() if name in _SPLITS}:
        return splits
    named = next((name for name in _ROWS if name in lists), None)
    return {named: lists[named]} if named else {}


def _parquet(file: Path) -> Iterator[tuple[str, Json]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        batches = (batch.to_pylist() for batch in table.iter_batches(1024))
        for number, data in enumerate(itertools.chain.from_iterable(batches), start=1):
            yield f"row {number}", data
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{file} is not a readable parquet file: {error}; write it again"
        ) from error


def _arrow(file: Path) -> Iterator[tuple[str, Json]]:
    """Yield the rows of a file that `datasets` wrote with `save_to_disk`."""
    import pyarrow.ipc

    try:
        with pyarrow.memory_map(str(file)) as source:
            table = pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowException as error:
        raise DataError(f"{file} is not a readable arrow file: {error}; write it again") from error
    for number, data in enumerate(table.to_pylist(), start=1):
        yield f"row {number}", data
