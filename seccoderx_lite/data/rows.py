"""Rows of a data set: built in, from a file or folder, or from the Hugging Face hub.

What the columns mean is in the layouts. Heavy packages are imported only by the readers that need
them.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json

Kind = Literal["tasks", "labelled"]
"""Which file of a built-in world is meant by its name alone."""

_SUFFIXES = (".jsonl", ".parquet", ".arrow", ".json")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_BUILTIN = "builtin:"


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a data set, and where it was read."""

    place: str
    """For messages: file and line."""
    number: int
    """Counted from 1 over the whole source, before a split is selected."""
    data: Mapping[str, Json]


def read_rows(source: str | Path, split: str | None, kind: Kind) -> list[Row]:
    """Return the rows of a source, at least one; with a split only those of that split.

    `builtin:tiny/tasks` is the file `tasks.jsonl` of the built-in world `tiny`; `builtin:tiny` is
    its file of the given kind. In a folder, files named after the split (`train.jsonl`,
    `train-00000-of-00001.parquet`, `train/data-00000-of-00001.arrow`) are that split; otherwise
    the column `split` decides.

    Raises:
        DataError: the source is missing, empty or unreadable, or has no such split.
    """
    return list(iter_rows(source, split, kind))


def iter_rows(source: str | Path, split: str | None, kind: Kind) -> Iterator[Row]:
    """Yield what `read_rows` returns; JSON lines and parquet are read piece by piece.

    Raises:
        DataError: as `read_rows`, when the reading reaches the fault.
    """
    name = str(source)
    path = _builtin_path(name, kind) if name.startswith(_BUILTIN) else Path(name)
    if path.is_dir():
        files = _files_of(path)
        of_split = [file for file in files if split and _is_named_after(file, split)]
        rows = _numbered(of_split or files)
        split = None if of_split else split
    elif path.exists():
        rows = _numbered([path])
    elif _HUB_ID.match(name) and not name.endswith(_SUFFIXES) and not path.parent.is_dir():
        rows = _hub_rows(name)
    else:
        raise DataError(f"{name}: no such file or folder, and not the id of a data set on the hub")
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} is empty")
    rows = itertools.chain([first], rows)
    yield from rows if split is None else _of_split(rows, split, name)


def _builtin_path(name: str, kind: Kind) -> Path:
    world, _, file = name.removeprefix(_BUILTIN).partition("/")
    root = Path(str(resources.files("seccoderx_lite.data.builtin")))
    path = root / world / f"{file or kind}.jsonl"
    if not path.is_file() or root not in path.resolve().parents:
        known = sorted(
            f"{_BUILTIN}{found.parent.name}/{found.stem}" for found in root.glob("*/*.jsonl")
        )
        raise DataError(f"{name} is not built-in data; use {' or '.join(known) or 'a file'}")
    return path


def _files_of(folder: Path) -> list[Path]:
    """Return the data files below a folder; JSON files count only if there is no other format.

    A JSON file next to data in another format usually describes that data.
    """
    visible = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part[0] == "." for part in file.relative_to(folder).parts)
    ]
    for suffixes in (_SUFFIXES[:-1], _SUFFIXES[-1:]):
        if files := [file for file in visible if file.suffix in suffixes]:
            return files
    raise DataError(f"{folder} has no data file; file names must end in {', '.join(_SUFFIXES)}")


def _is_named_after(file: Path, split: str) -> bool:
    named = re.match(re.escape(split) + r"($|[-_.])", file.stem) is not None
    return named or (file.suffix == ".arrow" and file.parent.name == split)


def _numbered(files: Sequence[Path]) -> Iterator[Row]:
    numbers = itertools.count(1)
    for file in files:
        for place, data in _read_file(file):
            if not isinstance(data, Mapping):
                raise DataError(
                    f"{file}, {place}: must be a JSON object (got a {type(data).__name__})"
                )
            yield Row(f"{file}, {place}", next(numbers), data)


def _read_file(file: Path) -> Iterator[tuple[str, Json]]:
    try:
        read = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet, ".arrow": _arrow}
        if file.suffix not in read:
            raise DataError(f"{file}: the file name must end in {', '.join(_SUFFIXES)}")
        yield from read[file.suffix](file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}") from error


def _jsonl(file: Path) -> Iterator[tuple[str, Json]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except ValueError as error:
                    raise DataError(f"{file}, line {number}: not valid JSON: {error}") from error


def _json(file: Path) -> Iterator[tuple[str, Json]]:
    """Yield the entries of a list; a file that starts with an object is read as JSON lines."""
    text = file.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("{"):
        yield from _jsonl(file)
        return
    try:
        data = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: not valid JSON: {error.msg}") from error
    if not isinstance(data, list):
        raise DataError(f"{file}: must contain a list of objects (got {data!r:.40})")
    for number, entry in enumerate(data, start=1):
        yield f"entry {number}", entry


def _parquet(file: Path) -> Iterator[tuple[str, Json]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        batches = (batch.to_pylist() for batch in table.iter_batches(1024))
        for number, data in enumerate(itertools.chain.from_iterable(batches), start=1):
            yield f"row {number}", data
    except pyarrow.ArrowException as error:
        raise DataError(f"{file} is not a readable parquet file: {error}") from error


def _arrow(file: Path) -> Iterator[tuple[str, Json]]:
    """Yield the rows of a file that `datasets` wrote with `save_to_disk`."""
    import pyarrow.ipc

    try:
        with pyarrow.memory_map(str(file)) as source:
            table = pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowException as error:
        raise DataError(f"{file} is not a readable arrow file: {error}") from error
    for number, data in enumerate(table.to_pylist(), start=1):
        yield f"row {number}", data


def _hub_rows(name: str) -> Iterator[Row]:
    """Yield all rows of a data set on the hub, each with its split in the column `split`."""
    import datasets

    try:
        splits = datasets.load_dataset(name)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name}: no such file or folder, and loading it from the hub failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    numbers = itertools.count(1)
    for split, entries in splits.items():
        for number, data in enumerate(entries, start=1):
            place = f"{name}, split {split}, row {number}"
            yield Row(place, next(numbers), {"split": split, **data})


def _of_split(rows: Iterator[Row], split: str, name: str) -> Iterator[Row]:
    found: set[str] = set()
    for row in rows:
        if "split" in row.data:
            found.add(str(row.data["split"]))
        if row.data.get("split") == split:
            yield row
    if split not in found:
        known = f"its splits are {', '.join(sorted(found))}" if found else "it has no column split"
        raise DataError(f"{name}: split {split} has no rows; {known}")
