"""Load tasks and labelled code from every known layout of files.

A layout is recognised by its columns. In the toolkit's own layout every wrong value is an error.
In published data sets, which users cannot correct, a row that cannot be used is left out, and a
warning says how many were and why. Columns that no field uses are kept in `extra`.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, LabelledCode, Task
from seccoderx_lite.data.columns import Layout, MissingColumns, Record, UnusableRow
from seccoderx_lite.data.labelled_layouts import LABELLED_LAYOUTS, SEED_LAYOUTS
from seccoderx_lite.data.rows import Kind, Row, cleaned, iter_rows, read_rows
from seccoderx_lite.data.task_layouts import TASK_LAYOUTS

logger = logging.getLogger(__name__)


def load_tasks(source: str | Path, split: str | None = None) -> list[Task]:
    """Return the tasks of a `builtin:` name, file, folder or hub id.

    Layouts: the toolkit's own; SecCoderX alignment and prompt sets; CyberSecEval
    instruct; SecCodePLT.

    Raises:
        DataError: the source has no rows, a row does not fit its layout, or an id is repeated.
    """
    tasks = _load(source, split, "tasks", TASK_LAYOUTS)
    counts = Counter(task.id for task in tasks)
    if repeated := [f"{name} ({count} times)" for name, count in counts.items() if count > 1]:
        more = f" and {len(repeated) - 3} more" if len(repeated) > 3 else ""
        raise DataError(
            f"{source}: ids must be unique, but these repeat: {', '.join(repeated[:3])}{more}"
        )
    return [replace(task, source=str(source)) for task in tasks]


def each_source(sources: str | Path | Sequence[str]) -> Sequence[str | Path]:
    """Return the sources of a field that takes one or several."""
    return [sources] if isinstance(sources, str | Path) else sources


def training_tasks(sources: str | Sequence[str]) -> list[Task]:
    """Return the training tasks of one source or several, see `load_tasks` and `in_split`.

    Raises:
        DataError: a source cannot be read or has no split for training, or two have the same id.
    """
    return _of_each(sources, lambda tasks: in_split(tasks, "train"))


def validation_tasks(sources: str | Sequence[str]) -> list[Task]:
    """Return the validation tasks of each source, or all tasks of a source without them.

    Raises:
        DataError: a source cannot be read, or two have the same id.
    """
    return _of_each(sources, validation_or_all)


def _of_each(
    sources: str | Sequence[str], chosen: Callable[[list[Task]], list[Task]]
) -> list[Task]:
    every: dict[str, Task] = {}
    for source in each_source(sources):
        try:
            own = chosen(load_tasks(source))
        except DataError as error:
            raise DataError(f"{source}: {str(error).removeprefix(f'{source}: ')}") from error
        if common := [task.id for task in own if task.id in every]:
            raise DataError(
                f"{source}: {len(common)} ids are also in {every[common[0]].source}, such as "
                f"{common[0]}; ids must differ between sources"
            )
        every |= {task.id: task for task in own}
    return list(every.values())


def task_of(columns: Mapping[str, Json], number: int) -> Task:
    """Return the task in the columns of one row, in any of the layouts of `load_tasks`.

    Arrays, into which other libraries convert lists, are accepted as lists.

    Raises:
        DataError: the columns are not a task; the message says why.
    """
    data = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in columns.items()}
    row = Row(f"row {number}", number, cleaned(data, f"row {number}"))
    layout = _layout_of(row, "tasks", TASK_LAYOUTS)
    try:
        (task,) = layout.records_of(row)
    except UnusableRow as reason:
        raise DataError(f"{row.place}: {reason}{reason.hint}") from reason
    return task


def load_labelled(
    source: str | Path | Sequence[str], split: str | None = None
) -> list[LabelledCode]:
    """Return the labelled code of a `builtin:` name, file, folder or hub id, or of several.

    Layouts: the toolkit's own; SecCoderX detection tests, and its judge sets for GRPO and for the
    cold start; SVEN and SecCodePLT (each row gives a pair); PrimeVul, paired or not; R2Vul.

    Raises:
        DataError: the source has no rows, or a row does not fit its layout.
    """
    return [
        replace(row, source=str(each))
        for each in each_source(source)
        for row in _load(each, split, "labelled", LABELLED_LAYOUTS)
    ]


def iter_vulnerable(
    source: str | Path, split: str | None, on_left_out: Callable[[str, str], None]
) -> Iterator[tuple[str, LabelledCode]]:
    """Yield the place and the vulnerable code of each row, one by one: a source may be large.

    Layouts: those of `load_labelled`, of which code labelled safe is skipped, and any rows with
    `code`, `language` (or `language_suffix`) and `cwe`. For a row that cannot be used,
    `on_left_out` is called with its place and the reason.

    Raises:
        DataError: the source has no rows, or its layout is not known.
    """
    rows = iter_rows(source, split, "labelled")
    first = next(rows)
    layout = _layout_of(first, "labelled", SEED_LAYOUTS)
    for row in itertools.chain([first], rows):
        try:
            codes = layout.records_of(row)
            yield from ((row.place, code) for code in codes if code.is_vulnerable)
        except UnusableRow as reason:
            on_left_out(row.place, str(reason))


def in_split(records: Sequence[Record], split: str) -> list[Record]:
    """Return the records of a split; all of them if no record has the column `split`.

    A file of training tasks therefore needs no such column. Of several sources, those without it
    are used for training alone.

    Raises:
        DataError: the data has splits, but not this one.
    """
    with_splits = {record.source for record in records if "split" in record.extra}
    if not with_splits:
        return list(records)
    chosen = [
        record
        for record in records
        if record.extra.get("split", None if record.source in with_splits else "train") == split
    ]
    if not chosen:
        found = sorted({str(record.extra.get("split")) for record in records})
        raise DataError(f"split {split} has no rows; the splits are {', '.join(found)}")
    return chosen


def validation_or_all(records: Sequence[Record]) -> list[Record]:
    """Return the split `validation`, or all records of a data set without it.

    For monitoring and comparing only: these records may be training data too.
    """
    chosen = [record for record in records if record.extra.get("split") == "validation"]
    return chosen or list(records)


def _load(
    source: str | Path, split: str | None, kind: Kind, layouts: Sequence[Layout[Record]]
) -> list[Record]:
    rows = read_rows(source, split, kind)
    layout = _layout_of(rows[0], kind, layouts)
    rows = layout.prepare(rows)
    records: list[Record] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        try:
            records += layout.records_of(row)
        except UnusableRow as reason:
            if layout.is_own or isinstance(reason, MissingColumns):
                raise DataError(f"{row.place}: {reason}{reason.hint}") from reason
            left_out[str(reason)] += 1
    reasons = ", ".join(f"{reason} ({count})" for reason, count in left_out.most_common())
    if left_out:
        logger.warning(
            "%s: left out %d of %d rows: %s", source, left_out.total(), len(rows), reasons
        )
    if not records:
        raise DataError(f"{source}: none of its {len(rows)} rows can be used: {reasons}")
    return records


def _layout_of(row: Row, kind: Kind, layouts: Sequence[Layout[Record]]) -> Layout[Record]:
    for layout in layouts:
        if _has(row, layout.marks):
            return layout
    others = LABELLED_LAYOUTS if kind == "tasks" else TASK_LAYOUTS
    wanted, given = ("tasks", "labelled code")[:: 1 if kind == "tasks" else -1]
    match = next((other.name for other in others if _has(row, other.marks)), None)
    known = "\n".join(f"  {layout.name}: {', '.join(layout.required)}" for layout in layouts)
    raise DataError(
        f"{row.place}: its columns ({', '.join(row.data) or 'none'}) match no layout of {wanted}."
        + (f" They match {match!r}, a layout of {given}." if match else "")
        + f" Known layouts, with the columns they need:\n{known}"
    )


def _has(row: Row, columns: Sequence[str]) -> bool:
    return all(column in row.data for column in columns)
