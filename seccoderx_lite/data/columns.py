"""What a layout of rows is, and readers that check the columns of a row.

A column with a wrong value makes its row unusable. Whether that is an error, or the row is left
out, is decided in `loading`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.languages import language_of
from seccoderx_lite.core.records import LANGUAGES, Json, LabelledCode, Language, Task
from seccoderx_lite.data.rows import Row

Record = TypeVar("Record", Task, LabelledCode)


class UnusableRow(Exception):
    """A row that cannot become a record.

    The message is the reason, without the row's own values, so that equal reasons can be counted;
    `hint` has the values and what to do.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class MissingColumns(UnusableRow):
    """A row without columns that its layout needs."""


@dataclass(frozen=True, slots=True)
class Layout(Generic[Record]):
    """One way of storing records as rows."""

    name: str
    marks: tuple[str, ...]
    """Columns that identify it: no later layout of the list has all of them."""
    required: tuple[str, ...]
    read: Callable[[Row], Sequence[Record]]
    is_own: bool = False
    """Whether it is the toolkit's own layout, in which an unusable row is an error."""
    prepare: Callable[[list[Row]], list[Row]] = list
    """Adds to the rows what only all of them together show."""

    def records_of(self, row: Row) -> Sequence[Record]:
        """Return the records in a row of this layout.

        Raises:
            MissingColumns: a column that the layout needs is missing.
            UnusableRow: a column has a wrong value.
        """
        if missing := [column for column in self.required if column not in row.data]:
            raise MissingColumns(
                f"missing column {', '.join(missing)}",
                f", required by the layout {self.name!r}; add it (the row has "
                f"{', '.join(row.data)})",
            )
        return self.read(row)


def read_text(data: Mapping[str, Json], column: str) -> str:
    """Return text that is not empty; an id may be a number too."""
    value = data[column]
    if isinstance(value, int) and not isinstance(value, bool) and column == "id":
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise UnusableRow(f"{column} must be a non-empty string", f" (got {value!r:.40})")
    return value


def read_optional_text(data: Mapping[str, Json], column: str) -> str | None:
    return None if data.get(column) in (None, "") else read_text(data, column)


def read_language(name: Json) -> Language:
    """Return a supported language by any of its names."""
    language = language_of(name) if isinstance(name, str) else None
    if language is None:
        raise UnusableRow(f"language {name!r} is not supported", f"; use {', '.join(LANGUAGES)}")
    return language


def read_cwes(value: Json) -> tuple[str, ...]:
    """Return the ids of a list, of one id, or of text with several ids."""
    try:
        return cwe.ids_in(value)
    except DataError as error:
        raise UnusableRow(
            f'cwe {value!r:.60} is not a list of CWE ids; write for example ["CWE-89"]'
        ) from error


def read_pair(value: Json) -> str | None:
    """Return the name of a pair; numbers that pandas made fractions are whole again."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None or value == "" else str(value)


def read_label(value: Json, column: str = "is_vulnerable") -> bool:
    """Return a label that is true, false, 1 or 0."""
    if value not in (True, False):  # 0 and 1 equal them
        raise UnusableRow(f"{column} must be true or false", f" (got {value!r:.40})")
    return bool(value)


def read_rest(data: Mapping[str, Json], *used: str) -> dict[str, Json]:
    """Return the columns that no field of the record uses."""
    return {column: value for column, value in data.items() if column not in used}
