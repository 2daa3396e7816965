"""Rows of a data set: built in, from a file or folder, or from the Hugging Face hub.

What the columns mean is in the layouts. Heavy packages are imported only by the readers that need
them.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.hub import is_hub_reachable
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.file_formats import SUFFIXES, read_file

Kind = Literal["tasks", "labelled"]
"""Which file of a built-in world is meant by its name alone."""

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_BUILTIN = "builtin:"
_MAX_DEPTH = 100
"""Of values in a row; what reads them later recurses."""


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
    if _is_too_long(path):
        raise DataError(f"{name:.60}...: no such file or folder: the name is too long; check it")
    if path.is_dir():
        files = _files_of(path)
        of_split = [file for file in files if split and _is_named_after(file, split)]
        rows = _numbered(of_split or files)
        split = None if of_split else split
    elif path.exists():
        rows = _numbered([path])
    elif _HUB_ID.match(name) and not name.lower().endswith(SUFFIXES) and not path.parent.is_dir():
        rows = _hub_rows(name)
    else:
        raise DataError(
            f"{name}: no such file or folder, and not the id of a data set on the hub; check it"
        )
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} is empty; give a file with rows")
    rows = itertools.chain([first], rows)
    yield from rows if split is None else _of_split(rows, split, name)


def _is_too_long(path: Path) -> bool:
    try:
        path.exists()
    except (OSError, ValueError):
        return True
    return False


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

    A JSON file next to data in another format usually describes that data. In a folder that
    `datasets` wrote with `save_to_disk`, the files are those that its `state.json` names: others
    are what `datasets` cached there.
    """
    visible = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part[0] == "." for part in file.relative_to(folder).parts)
    ]
    for suffixes in (SUFFIXES[:-1], SUFFIXES[-1:]):
        if files := [file for file in visible if file.suffix.lower() in suffixes]:
            return _without_caches(files)
    raise DataError(f"{folder} has no data file; file names must end in {', '.join(SUFFIXES)}")


def _without_caches(files: Sequence[Path]) -> list[Path]:
    """Return the files without those that `datasets` cached next to a saved data set."""
    saved = {folder: _saved_files(folder / "state.json") for folder in {f.parent for f in files}}
    return [
        file
        for file in files
        if (names := saved[file.parent]) is None or file.suffix != ".arrow" or file.name in names
    ]


def _saved_files(state: Path) -> set[str] | None:
    """Return the names of the data files of a folder that `save_to_disk` wrote; else None."""
    if not state.is_file():
        return None
    try:
        data = json.loads(state.read_bytes())
        if "_data_files" not in data:
            return None
        names = {str(each["filename"]) for each in data["_data_files"]}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{state} is damaged: it must list _data_files ({error})") from error
    if missing := [name for name in names if not (state.parent / name).is_file()]:
        raise DataError(f"{state} names {min(missing)}, which is missing; save the data set again")
    return names


def _is_named_after(file: Path, split: str) -> bool:
    named = re.match(re.escape(split) + r"($|[-_.])", file.stem) is not None
    return named or (file.suffix == ".arrow" and file.parent.name == split)


def _numbered(files: Sequence[Path]) -> Iterator[Row]:
    numbers = itertools.count(1)
    for file in files:
        for where, data in read_file(file):
            place = f"{file}, {where}"
            if not isinstance(data, Mapping):
                raise DataError(f"{place}: must be a JSON object (got a {type(data).__name__})")
            yield Row(place, next(numbers), cleaned(data, place))


def cleaned(data: Mapping[str, Json], place: str) -> dict[str, Json]:
    """Return the columns of a row with what files of other programs have for "none" and text.

    A column that is NaN, as pandas writes a missing value, is null. Lone surrogates, which no
    tokenizer and no file accepts, become "?".

    Raises:
        DataError: a value is nested too deeply.
    """
    if _is_nested_deeper(data, _MAX_DEPTH):
        raise DataError(f"{place}: nested more than {_MAX_DEPTH} deep")
    columns = {name: None if _is_nan(value) else value for name, value in data.items()}
    clean: dict[str, Json] = _encodable(columns)
    return clean


def _is_nan(value: Json) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_nested_deeper(data: Json, depth: int) -> bool:
    level = [data]
    for _ in range(depth):
        level = [
            inner
            for value in level
            if isinstance(value, Mapping | list)
            for inner in (value.values() if isinstance(value, Mapping) else value)
        ]
    return bool(level)


def _encodable(data: Json) -> Json:
    if isinstance(data, str):
        return data if data.isascii() else data.encode("utf-8", "replace").decode("utf-8")
    if isinstance(data, Mapping):
        return {_encodable(key): _encodable(value) for key, value in data.items()}
    return [_encodable(value) for value in data] if isinstance(data, list) else data


def _hub_rows(name: str) -> Iterator[Row]:
    """Yield all rows of a data set on the hub, each with its split in the column `split`."""
    import datasets

    if not is_hub_reachable() and not _is_cached(name):
        raise DataError(
            f"{name}: no such file or folder, and it cannot be loaded from the hub, which is not "
            "reachable; check the path, or download the data where there is a network"
        )
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
            yield Row(place, next(numbers), {"split": split, **cleaned(data, place)})


def _is_cached(name: str) -> bool:
    """Whether a data set was loaded before; then no network is needed."""
    from datasets.config import HF_DATASETS_CACHE

    return (Path(HF_DATASETS_CACHE) / name.replace("/", "___")).is_dir()


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
