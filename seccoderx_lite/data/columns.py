"""What a layout of rows is, and its columns read with care.

A column that holds something else than it must makes its row unusable; whether that is an error or
a row to leave out is decided in `datasets`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.languages import language_of
from seccoderx_lite.core.records import LANGUAGES, Json, LabelledCode, Language, Task
from seccoderx_lite.data.rows import Row

Record = TypeVar("Record", Task, LabelledCode)


class Unusable(Exception):
    """A row that cannot become a record: why, in words that many rows share, and what helps."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class LacksColumns(Unusable):
    """A row without columns that its layout needs."""


@dataclass(frozen=True, slots=True)
class Layout(Generic[Record]):
    """One way of laying out records as rows."""

    name: str
    marks: tuple[str, ...]
    """Columns that no layout further down the list has."""
    required: tuple[str, ...]
    read: Callable[[Row], Sequence[Record]]
    is_own: bool = False
    """Whether the layout is the toolkit's, so that an unusable row is an error."""
    prepare: Callable[[list[Row]], list[Row]] = list
    """What is to be found out from all rows together."""

    def records_of(self, row: Row) -> Sequence[Record]:
        """Return what a row holds in this layout.

        Raises:
            LacksColumns: it has not all columns of the layout.
            Unusable: a column holds something else than it must.
        """
        if lacking := [column for column in self.required if column not in row.data]:
            raise LacksColumns(
                f"lacks {', '.join(lacking)}",
                f" of the layout {self.name!r}; it has {', '.join(row.data)}",
            )
        return self.read(row)


def read_text(data: Mapping[str, Json], column: str) -> str:
    """Return text that is not empty; a number too where the column is an id."""
    value = data[column]
    if isinstance(value, int) and not isinstance(value, bool) and column == "id":
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise Unusable(f"{column} must be text that is not empty")
    return value


def read_optional_text(data: Mapping[str, Json], column: str) -> str | None:
    """Return text, or None where there is none."""
    return None if data.get(column) in (None, "") else read_text(data, column)


def read_language(name: Json) -> Language:
    """Return a supported language by any of its names."""
    language = language_of(name) if isinstance(name, str) else None
    if language is None:
        raise Unusable(f"language {name!r} is not supported", f"; give {', '.join(LANGUAGES)}")
    return language


def read_cwes(value: Json) -> tuple[str, ...]:
    """Ids from a list, one id, or text with several ids."""
    if isinstance(value, str):
        value = [part for part in re.split(r"[,;\s\[\]'\"]+(?=cwe|$)", value, flags=re.I) if part]
    elif value is None or isinstance(value, int):
        value = [] if value is None else [value]
    try:
        return tuple(dict.fromkeys(cwe.normalise(entry) for entry in value))
    except (DataError, TypeError) as error:
        raise Unusable(f"cwe {value!r:.60} is no list of CWE ids") from error


def read_truth(value: Json, column: str = "is_vulnerable") -> bool:
    """Return a label: true or false, or 1 or 0."""
    if value not in (True, False):  # 0 and 1 too
        raise Unusable(f"{column} must be true or false, but is {value!r}")
    return bool(value)


def read_rest(data: Mapping[str, Json], *used: str) -> dict[str, Json]:
    """Return the columns that no field of the record took."""
    return {column: value for column, value in data.items() if column not in used}
