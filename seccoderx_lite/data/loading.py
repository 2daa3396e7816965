"""Tasks and labelled code from every known layout of files.

A layout is recognised by its columns. In the toolkit's own layout every oddity is an error. In
published data sets, which nobody here can mend, a row that cannot be used is left out, and a
warning says how many were and why. Columns that are not used are kept in `extra`.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, LabelledCode, Task
from seccoderx_lite.data.columns import (
    LacksColumns,
    Layout,
    Record,
    Unusable,
)
from seccoderx_lite.data.labelled_layouts import LABELLED_LAYOUTS, SEED_LAYOUTS
from seccoderx_lite.data.rows import Row, iter_rows, read_rows
from seccoderx_lite.data.task_layouts import TASK_LAYOUTS

logger = logging.getLogger(__name__)


def load_tasks(source: str | Path, split: str | None = None) -> list[Task]:
    """Return the tasks of a `builtin:` name, file, folder or hub id.

    Layouts: the toolkit's own; SecCoderX alignment and prompt sets; CyberSecEval instruct.

    Raises:
        DataError: there is nothing to read, a layout or a row is wrong, or an id occurs twice.
    """
    tasks = _load(source, split, "tasks", TASK_LAYOUTS, LABELLED_LAYOUTS)
    counts = Counter(task.id for task in tasks)
    if twice := [f"{name} ({count} times)" for name, count in counts.items() if count > 1]:
        more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
        raise DataError(f"{source}: ids must be unique, but there is {', '.join(twice[:3])}{more}")
    return tasks


def task_of(columns: Mapping[str, Json], number: int) -> Task:
    """Return the task that the columns of one row are, in any of the layouts of `load_tasks`.

    Arrays, as other libraries make of lists, are taken as lists.

    Raises:
        DataError: the columns are no task; the message says why.
    """
    data = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in columns.items()}
    row = Row(f"row {number}", number, data)
    layout = _layout_of(row, TASK_LAYOUTS, LABELLED_LAYOUTS)
    try:
        (task,) = layout.records_of(row)
    except Unusable as reason:
        raise DataError(f"{row.place}: {reason}{reason.hint}") from reason
    return task


def load_labelled(source: str | Path, split: str | None = None) -> list[LabelledCode]:
    """Return the labelled code of a `builtin:` name, file, folder or hub id.

    Layouts: the toolkit's own; SecCoderX detection tests, and its judge sets for GRPO and for the
    cold start; SVEN, of which every row gives a pair; PrimeVul, paired or not; R2Vul.

    Raises:
        DataError: there is nothing to read, or a layout or a row is wrong.
    """
    return _load(source, split, "labelled", LABELLED_LAYOUTS, TASK_LAYOUTS)


def iter_vulnerable(
    source: str | Path, split: str | None, on_left_out: Callable[[str, str], None]
) -> Iterator[tuple[str, LabelledCode]]:
    """Yield place and vulnerable code of a source's rows, one by one: it may be of any length.

    Layouts: those of `load_labelled`, of which the code labelled safe is passed over in silence,
    and any rows with `code`, `language` (or `language_suffix`) and `cwe`. A row that
    cannot be used is told to `on_left_out`: its place, and why.

    Raises:
        DataError: there is nothing to read, or the layout is not known.
    """
    rows = iter_rows(source, split, "labelled")
    first = next(rows)
    layout = _layout_of(first, SEED_LAYOUTS, TASK_LAYOUTS)
    for row in itertools.chain([first], rows):
        try:
            codes = layout.records_of(row)
            yield from ((row.place, code) for code in codes if code.is_vulnerable)
        except Unusable as reason:
            on_left_out(row.place, str(reason))


def in_split(records: Sequence[Record], split: str) -> list[Record]:
    """Return the records whose column `split` says so, or all where there is no such column.

    So that a user's own file of training tasks needs no column for it.

    Raises:
        DataError: there are splits, but not this one.
    """
    if not any("split" in record.extra for record in records):
        return list(records)
    chosen = [record for record in records if record.extra.get("split") == split]
    if not chosen:
        found = sorted({str(record.extra.get("split")) for record in records})
        raise DataError(f"nothing in split {split}; the splits are {', '.join(found)}")
    return chosen


def held_back(records: Sequence[Record]) -> list[Record]:
    """Return the split validation; all records where the data set has none, as published ones.

    For watching and comparing only: what it holds may have been trained on.
    """
    chosen = [record for record in records if record.extra.get("split") == "validation"]
    return chosen or list(records)


def _load(
    source: str | Path,
    split: str | None,
    kind: str,
    layouts: Sequence[Layout[Record]],
    others: Sequence[Layout[Task]] | Sequence[Layout[LabelledCode]],
) -> list[Record]:
    rows = read_rows(source, split, kind)
    layout = _layout_of(rows[0], layouts, others)
    rows = layout.prepare(rows)
    records: list[Record] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        try:
            records += layout.records_of(row)
        except Unusable as reason:
            if layout.is_own or isinstance(reason, LacksColumns):
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


def _layout_of(
    row: Row,
    layouts: Sequence[Layout[Record]],
    others: Sequence[Layout[Task]] | Sequence[Layout[LabelledCode]],
) -> Layout[Record]:
    for layout in layouts:
        if all(mark in row.data for mark in layout.marks):
            return layout
    known = "\n".join(f"  {known.name}: {', '.join(known.required)}" for known in layouts)
    other = next((o.name for o in others if all(mark in row.data for mark in o.marks)), None)
    hint = f" They are those of {other!r}, which is of the other kind." if other else ""
    raise DataError(
        f"{row.place}: its columns ({', '.join(row.data) or 'none'}) fit no known layout.{hint} "
        f"Known are, with the columns they need:\n{known}"
    )
