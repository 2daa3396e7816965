"""The layouts of task files: our own and the published ones."""

import json
from collections.abc import Callable, Mapping

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data import seccodeplt
from seccoderx_lite.data.columns import (
    Layout,
    UnusableRow,
    read_cwes,
    read_language,
    read_optional_text,
    read_rest,
    read_text,
)
from seccoderx_lite.data.rows import Row
from seccoderx_lite.sandbox.planning import plan_tests, without_padding


def _own_task(row: Row) -> list[Task]:
    data = row.data
    return [
        Task(
            id=read_text(data, "id"),
            prompt=read_text(data, "prompt"),
            language=read_language(data["language"]),
            cwe=read_cwes(data.get("cwe")),
            reference=read_optional_text(data, "reference"),
            tests=_tests(data, read_language(data["language"])),
            extra=read_rest(data, "id", "prompt", "language", "cwe", "reference", "tests"),
        )
    ]


def _tests(data: Mapping[str, Json], language: str) -> Mapping[str, Json] | None:
    """Tests as an object, or as JSON text: parquet has no column of objects of different shapes.

    They are planned here, so that tests which cannot run are found before anything starts.
    """
    value = data.get("tests")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UnusableRow(f"tests are not valid JSON: {error}; correct them") from error
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise UnusableRow(f"tests must be an object (got {type(value).__name__})")
    tests = without_padding(value)
    try:
        plan_tests(tests, language)
    except DataError as error:
        raise UnusableRow(f"task {data.get('id')!r}: {error}") from error
    return tests


def _published(
    name: str,
    prompt: str,
    language: str,
    cwe: str,
    reference: str | None = None,
    number: str | None = None,
) -> Callable[[Row], list[Task]]:
    """Return the reader of a layout with these columns.

    `name` begins the ids; `number` is the column that ends them, by default the row's number.
    """

    def read(row: Row) -> list[Task]:
        data = row.data
        return [
            Task(
                id=f"{name}-{data.get(number, row.number) if number else row.number}",
                prompt=read_text(data, prompt),
                language=read_language(data[language]),
                cwe=read_cwes(data[cwe]),
                reference=read_optional_text(data, reference) if reference else None,
                extra=read_rest(data, prompt, reference or prompt),
            )
        ]

    return read


_read_instruct = _published(
    "cyberseceval", "test_case_prompt", "language", "cwe_identifier", number="prompt_id"
)


def _cyberseceval(row: Row) -> list[Task]:
    """A request for code; the rows of autocomplete.json are none."""
    if row.data.get("variant", "instruct") != "instruct":
        raise UnusableRow("the row continues code; use CyberSecEval's instruct.json")
    return _read_instruct(row)


TASK_LAYOUTS: tuple[Layout[Task], ...] = (
    Layout(
        "SecCodePLT",
        seccodeplt.MARKS,
        seccodeplt.COLUMNS,
        seccodeplt.read_task,
        prepare=seccodeplt.with_families,
    ),
    Layout("tasks", ("prompt",), ("id", "prompt", "language"), _own_task, is_own=True),
    Layout(
        "SecCoderX alignment",
        ("problem", "language_suffix"),
        ("problem", "language_suffix", "cwe_id", "generated_code"),
        _published("seccoderx", "problem", "language_suffix", "cwe_id", "generated_code"),
    ),
    Layout(
        "SecCoderX prompts",
        ("instruction_text",),
        ("instruction_text", "implementation_language", "cwe"),
        _published("seccoderx-prompt", "instruction_text", "implementation_language", "cwe"),
    ),
    Layout(
        "CyberSecEval instruct",
        ("test_case_prompt",),
        ("test_case_prompt", "cwe_identifier", "language"),
        _cyberseceval,
    ),
)
