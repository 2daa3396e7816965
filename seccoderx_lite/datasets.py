"""Tasks and labelled code from every known layout of files.

A layout is recognised by its columns. In the toolkit's own layout every oddity is an error. In
published data sets, which nobody here can mend, a row that cannot be used is left out, and a
warning says how many were and why. Columns that are not used are kept in `extra`.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from seccoderx_lite import cwe
from seccoderx_lite.dataset_files import Row, read_rows
from seccoderx_lite.errors import DataError
from seccoderx_lite.records import LANGUAGES, Json, LabelledCode, Language, Task

logger = logging.getLogger(__name__)

Record = TypeVar("Record", Task, LabelledCode)

_ALIASES: dict[str, Language] = {
    **{language: language for language in LANGUAGES},
    "py": "python",
    "python3": "python",
    "js": "javascript",
    "node": "javascript",
    "mjs": "javascript",
    "h": "c",
    "c++": "cpp",
    "cc": "cpp",
    "cxx": "cpp",
    "hpp": "cpp",
    "golang": "go",
}
_TEST_KINDS = ("calls", "stdio", "pytest")


class _Unusable(Exception):
    """A row that cannot become a record: why, in words that many rows share, and what helps."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class _Layout(Generic[Record]):
    name: str
    marks: tuple[str, ...]
    """Columns that no layout further down the list has."""
    required: tuple[str, ...]
    read: Callable[[Row], Sequence[Record]]
    is_own: bool = False
    """Whether the layout is the toolkit's, so that an unusable row is an error."""


def language_of(name: str) -> Language | None:
    """Return the language a name, alias or file suffix stands for, None if it is not supported.

    >>> language_of("C++"), language_of(".py"), language_of("rust")
    ('cpp', 'python', None)
    """
    return _ALIASES.get(name.strip().lower().removeprefix("."))


def load_tasks(source: str | Path, split: str | None = None) -> list[Task]:
    """Return the tasks of a `builtin:` name, file (jsonl, json, parquet), folder or hub id.

    Layouts: the toolkit's own; SecCoderX alignment and prompt sets; CyberSecEval instruct.

    Raises:
        DataError: there is nothing to read, a layout or a row is wrong, or an id occurs twice.
    """
    tasks = _load(source, split, "tasks", _TASK_LAYOUTS, _LABELLED_LAYOUTS)
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
    layout = _layout_of(row, _TASK_LAYOUTS, _LABELLED_LAYOUTS)
    if lacking := [column for column in layout.required if column not in data]:
        raise DataError(f"{row.place}: lacks {', '.join(lacking)} of the layout {layout.name!r}")
    try:
        (task,) = layout.read(row)
    except _Unusable as reason:
        raise DataError(f"{row.place}: {reason}{reason.hint}") from reason
    return task


def load_labelled(source: str | Path, split: str | None = None) -> list[LabelledCode]:
    """Return the labelled code of a `builtin:` name, file, folder or hub id.

    Layouts: the toolkit's own; SecCoderX detection tests, and its judge sets for GRPO and for the
    cold start; SVEN, of which every row gives a pair.

    Raises:
        DataError: there is nothing to read, or a layout or a row is wrong.
    """
    return _load(source, split, "labelled", _LABELLED_LAYOUTS, _TASK_LAYOUTS)


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
    layouts: Sequence[_Layout[Record]],
    others: Sequence[_Layout[Task]] | Sequence[_Layout[LabelledCode]],
) -> list[Record]:
    rows = read_rows(source, split, kind)
    layout = _layout_of(rows[0], layouts, others)
    records: list[Record] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        if lacking := [column for column in layout.required if column not in row.data]:
            raise DataError(
                f"{row.place}: lacks {', '.join(lacking)} of the layout {layout.name!r}; "
                f"it has {', '.join(row.data)}"
            )
        try:
            records += layout.read(row)
        except _Unusable as reason:
            if layout.is_own:
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
    layouts: Sequence[_Layout[Record]],
    others: Sequence[_Layout[Task]] | Sequence[_Layout[LabelledCode]],
) -> _Layout[Record]:
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


def _own_task(row: Row) -> list[Task]:
    data = row.data
    return [
        Task(
            id=_text(data, "id"),
            prompt=_text(data, "prompt"),
            language=_language(data["language"]),
            cwe=_cwes(data.get("cwe")),
            reference=_optional_text(data, "reference"),
            tests=_tests(data.get("tests")),
            extra=_rest(data, "id", "prompt", "language", "cwe", "reference", "tests"),
        )
    ]


def _alignment_task(row: Row) -> list[Task]:
    """A row of the SecCoderX alignment set (seccoderx.md, 4.4)."""
    data = row.data
    return [
        Task(
            id=f"seccoderx-{row.number}",
            prompt=_text(data, "problem"),
            language=_language(data["language_suffix"]),
            cwe=_cwes(data["cwe_id"]),
            reference=_optional_text(data, "generated_code"),
            extra=_rest(data, "problem", "generated_code"),
        )
    ]


def _prompt_task(row: Row) -> list[Task]:
    """A row of the SecCoderX prompt set, which has no reference code."""
    data = row.data
    return [
        Task(
            id=f"seccoderx-prompt-{row.number}",
            prompt=_text(data, "instruction_text"),
            language=_language(data["implementation_language"]),
            cwe=_cwes(data["cwe"]),
            extra=_rest(data, "instruction_text"),
        )
    ]


def _cyberseceval_task(row: Row) -> list[Task]:
    data = row.data
    return [
        Task(
            id=f"cyberseceval-{data.get('prompt_id', row.number)}",
            prompt=_text(data, "test_case_prompt"),
            language=_language(data["language"]),
            cwe=_cwes(data["cwe_identifier"]),
            extra=_rest(data, "test_case_prompt"),
        )
    ]


def _own_labelled(row: Row) -> list[LabelledCode]:
    return [_labelled(row.data, "language")]


def _detection_labelled(row: Row) -> list[LabelledCode]:
    return [_labelled(row.data, "language_suffix")]


def _labelled(data: Mapping[str, Json], language: str) -> LabelledCode:
    pair = data.get("pair")
    return LabelledCode(
        code=_text(data, "code"),
        language=_language(data[language]),
        cwe=_cwes(data["cwe"]),
        is_vulnerable=_truth(data["is_vulnerable"]),
        pair=None if pair is None else str(pair),
        reasoning=_optional_text(data, "reasoning"),
        extra=_rest(data, "code", language, "cwe", "is_vulnerable", "pair", "reasoning"),
    )


def _sven_pair(row: Row) -> list[LabelledCode]:
    """Both sides of a security fix."""
    data = row.data
    before, after = _text(data, "func_src_before"), _text(data, "func_src_after")
    if before == after:
        raise _Unusable("fix changes nothing")
    language = _language(Path(_text(data, "file_name")).suffix)
    rest = _rest(data, "func_src_before", "func_src_after", "vul_type")
    return [
        LabelledCode(
            code=code,
            language=language,
            cwe=_cwes(data["vul_type"]),
            is_vulnerable=is_vulnerable,
            pair=f"sven-{row.number}",
            extra=rest,
        )
        for code, is_vulnerable in ((before, True), (after, False))
    ]


def _judge_prompt(row: Row) -> list[LabelledCode]:
    """A row of the SecCoderX judge set for GRPO: a rendered prompt, and a label."""
    data = row.data
    return [_from_judge_prompt(_text(data, "problem"), _text(data, "answer"), None)]


def _judge_answer(row: Row) -> list[LabelledCode]:
    """A row of the SecCoderX cold-start set: a rendered prompt, and a full answer to it."""
    output = _text(row.data, "output")
    answers = re.findall(r"<answer>(.*?)</answer>", output, re.DOTALL)
    thinking = re.search(r"<think>(.*?)</think>", output, re.DOTALL)
    if not answers or not thinking:
        raise _Unusable("output lacks a think or an answer block")
    prompt = _text(row.data, "instruction")
    return [_from_judge_prompt(prompt, answers[-1], thinking.group(1).strip())]


def _from_judge_prompt(prompt: str, label: str, reasoning: str | None) -> LabelledCode:
    """Take the code, and the weaknesses asked about, out of a rendered prompt.

    A label reads "Vulnerable;[CWE-89, CWE-72]" or "Not Vulnerable;[]" (seccoderx.md, 3.2).
    """
    fence = re.search(r"^```([\w+#]+)[ \t]*\n(.*?)\n```", prompt, re.DOTALL | re.MULTILINE)
    if not fence:
        raise _Unusable("prompt lacks fenced code")
    truth, _, named = label.partition(";")
    truths = {"vulnerable": True, "not vulnerable": False}
    if truth.strip().lower() not in truths:
        raise _Unusable("label is neither Vulnerable nor Not Vulnerable")
    asked = re.findall(r"^Type:\s*(CWE-\d+)", prompt, re.MULTILINE)
    return LabelledCode(
        code=fence.group(2),
        language=_language(fence.group(1)),
        cwe=_cwes(re.findall(r"CWE-\d+", named) or asked),
        is_vulnerable=truths[truth.strip().lower()],
        reasoning=reasoning,
    )


def _text(data: Mapping[str, Json], column: str) -> str:
    value = data[column]
    if isinstance(value, int) and not isinstance(value, bool) and column == "id":
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise _Unusable(f"{column} must be text that is not empty")
    return value


def _optional_text(data: Mapping[str, Json], column: str) -> str | None:
    return None if data.get(column) in (None, "") else _text(data, column)


def _language(name: Json) -> Language:
    language = language_of(name) if isinstance(name, str) else None
    if language is None:
        raise _Unusable(f"language {name!r} is not supported", f"; give {', '.join(LANGUAGES)}")
    return language


def _cwes(value: Json) -> tuple[str, ...]:
    """Ids from a list, one id, or text with several ids."""
    if isinstance(value, str):
        value = [part for part in re.split(r"[,;\s\[\]'\"]+(?=cwe|$)", value, flags=re.I) if part]
    elif value is None or isinstance(value, int):
        value = [] if value is None else [value]
    try:
        return tuple(dict.fromkeys(cwe.normalise(entry) for entry in value))
    except (DataError, TypeError) as error:
        raise _Unusable(f"cwe {value!r:.60} is no list of CWE ids") from error


def _truth(value: Json) -> bool:
    if value not in (True, False):  # 0 and 1 too
        raise _Unusable(f"is_vulnerable must be true or false, but is {value!r}")
    return bool(value)


def _tests(value: Json) -> Mapping[str, Json] | None:
    """Tests as an object, or as its JSON text, since parquet cannot hold mixed objects."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _Unusable(f"tests are not valid JSON: {error}") from error
    if value is None:
        return None
    if not isinstance(value, Mapping) or value.get("kind") not in _TEST_KINDS:
        raise _Unusable(f"tests must be an object with a kind of {', '.join(_TEST_KINDS)}")
    return value


def _rest(data: Mapping[str, Json], *used: str) -> dict[str, Json]:
    return {column: value for column, value in data.items() if column not in used}


_TASK_LAYOUTS: tuple[_Layout[Task], ...] = (
    _Layout("tasks", ("prompt",), ("id", "prompt", "language"), _own_task, is_own=True),
    _Layout(
        "SecCoderX alignment",
        ("problem", "language_suffix"),
        ("problem", "language_suffix", "cwe_id", "generated_code"),
        _alignment_task,
    ),
    _Layout(
        "SecCoderX prompts",
        ("instruction_text",),
        ("instruction_text", "implementation_language", "cwe"),
        _prompt_task,
    ),
    _Layout(
        "CyberSecEval instruct",
        ("test_case_prompt",),
        ("test_case_prompt", "cwe_identifier", "language"),
        _cyberseceval_task,
    ),
)

_LABELLED_LAYOUTS: tuple[_Layout[LabelledCode], ...] = (
    _Layout(
        "SecCoderX detection test",
        ("code", "is_vulnerable", "language_suffix"),
        ("code", "language_suffix", "cwe", "is_vulnerable"),
        _detection_labelled,
    ),
    _Layout(
        "labelled code",
        ("code",),
        ("code", "language", "cwe", "is_vulnerable"),
        _own_labelled,
        is_own=True,
    ),
    _Layout(
        "SVEN",
        ("func_src_before", "func_src_after"),
        ("func_src_before", "func_src_after", "vul_type", "file_name"),
        _sven_pair,
    ),
    _Layout("SecCoderX judge, GRPO", ("problem", "answer"), ("problem", "answer"), _judge_prompt),
    _Layout(
        "SecCoderX judge, cold start",
        ("instruction", "output"),
        ("instruction", "output"),
        _judge_answer,
    ),
)
