"""The layouts of task files: the toolkit's own and the published ones."""

import json
from collections.abc import Mapping

from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.columns import (
    Layout,
    Unusable,
    read_cwes,
    read_language,
    read_optional_text,
    read_rest,
    read_text,
)
from seccoderx_lite.data.rows import Row

_TEST_KINDS = ("calls", "stdio", "pytest")


def _own_task(row: Row) -> list[Task]:
    data = row.data
    return [
        Task(
            id=read_text(data, "id"),
            prompt=read_text(data, "prompt"),
            language=read_language(data["language"]),
            cwe=read_cwes(data.get("cwe")),
            reference=read_optional_text(data, "reference"),
            tests=_tests(data.get("tests")),
            extra=read_rest(data, "id", "prompt", "language", "cwe", "reference", "tests"),
        )
    ]


def _alignment_task(row: Row) -> list[Task]:
    """A row of the SecCoderX alignment set (seccoderx.md, 4.4)."""
    data = row.data
    return [
        Task(
            id=f"seccoderx-{row.number}",
            prompt=read_text(data, "problem"),
            language=read_language(data["language_suffix"]),
            cwe=read_cwes(data["cwe_id"]),
            reference=read_optional_text(data, "generated_code"),
            extra=read_rest(data, "problem", "generated_code"),
        )
    ]


def _prompt_task(row: Row) -> list[Task]:
    """A row of the SecCoderX prompt set, which has no reference code."""
    data = row.data
    return [
        Task(
            id=f"seccoderx-prompt-{row.number}",
            prompt=read_text(data, "instruction_text"),
            language=read_language(data["implementation_language"]),
            cwe=read_cwes(data["cwe"]),
            extra=read_rest(data, "instruction_text"),
        )
    ]


def _cyberseceval_task(row: Row) -> list[Task]:
    data = row.data
    return [
        Task(
            id=f"cyberseceval-{data.get('prompt_id', row.number)}",
            prompt=read_text(data, "test_case_prompt"),
            language=read_language(data["language"]),
            cwe=read_cwes(data["cwe_identifier"]),
            extra=read_rest(data, "test_case_prompt"),
        )
    ]


def _tests(value: Json) -> Mapping[str, Json] | None:
    """Tests as an object, or as its JSON text, since parquet cannot hold mixed objects."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Unusable(f"tests are not valid JSON: {error}") from error
    if value is None:
        return None
    if not isinstance(value, Mapping) or value.get("kind") not in _TEST_KINDS:
        raise Unusable(f"tests must be an object with a kind of {', '.join(_TEST_KINDS)}")
    return value


TASK_LAYOUTS: tuple[Layout[Task], ...] = (
    Layout("tasks", ("prompt",), ("id", "prompt", "language"), _own_task, is_own=True),
    Layout(
        "SecCoderX alignment",
        ("problem", "language_suffix"),
        ("problem", "language_suffix", "cwe_id", "generated_code"),
        _alignment_task,
    ),
    Layout(
        "SecCoderX prompts",
        ("instruction_text",),
        ("instruction_text", "implementation_language", "cwe"),
        _prompt_task,
    ),
    Layout(
        "CyberSecEval instruct",
        ("test_case_prompt",),
        ("test_case_prompt", "cwe_identifier", "language"),
        _cyberseceval_task,
    ),
)
