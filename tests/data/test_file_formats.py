"""Rows in every form that files of other programs have, and what cannot be read."""

import json

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data.loading import load_labelled, load_tasks

ONE = {"code": "f(a)\n", "language": "python", "cwe": ["CWE-78"], "is_vulnerable": True}
TWO = {**ONE, "code": "g(a)\n", "is_vulnerable": False}

FORMS = {
    "lines": f"{json.dumps(ONE)}\n{json.dumps(TWO)}\n",
    "a list": json.dumps([ONE, TWO]),
    "a list over lines": json.dumps([ONE, TWO], indent=2),
    "objects over lines": json.dumps(ONE, indent=2) + "\n" + json.dumps(TWO, indent=2),
    "a list in an object": json.dumps({"version": "1.0", "data": [ONE, TWO]}),
    "a list in an object over lines": json.dumps({"version": 1, "rows": [ONE, TWO]}, indent=2),
    "a list under any name": json.dumps({"my rows": [ONE, TWO]}, indent=2),
    "objects by id": json.dumps({"a": ONE, "b": TWO}, indent=2),
    "lists by split": json.dumps({"about": "x", "train": [ONE], "test": [TWO]}),
}


@pytest.mark.parametrize("suffix", ["json", "jsonl", "JSONL"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_found_in_every_form(tmp_path, form, suffix):
    file = tmp_path / f"data.{suffix}"
    file.write_text(FORMS[form])
    if suffix != "json" and form in ("a list in an object", "lists by split"):
        with pytest.raises(DataError, match="line 1: its columns"):
            load_labelled(file)
        return
    assert [row.code for row in load_labelled(file)] == ["f(a)\n", "g(a)\n"]


def test_one_row_over_lines_is_a_row(tmp_path):
    file = tmp_path / "data.json"
    file.write_text(json.dumps({**ONE, "notes": [{"by": "x"}]}, indent=2))
    assert [row.code for row in load_labelled(file)] == ["f(a)\n"]


def test_lists_by_split_have_their_split(tmp_path):
    file = tmp_path / "data.json"
    file.write_text(FORMS["lists by split"])
    assert [row.code for row in load_labelled(file, "test")] == ["g(a)\n"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": \n', "line 3: not valid JSON"),
        ('{\n "a": 1,\n}', "line 3: not valid JSON: Expecting property name"),
        ('[{"a": 1}', "line 1: not valid JSON"),
        ("3", "must contain a list of objects (got 3)"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps({**ONE, "a": json.loads("[" * 300 + "]" * 300)}), "nested more than 100 deep"),
        ('{"code": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, text, message):
    file = tmp_path / "data.json"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        load_labelled(file)
    assert str(file) in str(caught.value) and message in str(caught.value)


def test_lone_surrogates_become_question_marks_everywhere_in_a_row(tmp_path):
    file = tmp_path / "tasks.jsonl"
    tests = {
        "kind": "calls",
        "entry_point": "f",
        "functionality": [{"args": ["\ud800"], "expect": 1}],
    }
    row = {
        "id": "\udcff",
        "prompt": "a\ud83d b\U0001f600",
        "language": "python",
        "\ud800": "\ud800",
    }
    file.write_text(json.dumps({**row, "tests": tests}))
    (task,) = load_tasks(file)
    assert (task.id, task.prompt, task.extra) == ("?", "a? b\U0001f600", {"?": "?"})
    assert task.tests["functionality"] == [{"args": ["?"], "expect": 1}]


def test_nan_in_a_column_is_none(tmp_path):
    file = tmp_path / "data.jsonl"
    row = {**ONE, "pair": float("nan"), "cwe": float("nan"), "reasoning": float("nan")}
    file.write_text(json.dumps(row) + "\n" + json.dumps({**TWO, "pair": 3.0}))
    one, two = load_labelled(file)
    assert (one.pair, one.cwe, one.reasoning, two.pair) == (None, (), None, "3")


def save_to_disk(folder, rows, name):
    import pyarrow

    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(str(folder / name), table.schema) as stream:
        stream.write_table(table)


def test_what_datasets_cached_next_to_a_saved_data_set_is_not_data(tmp_path):
    save_to_disk(tmp_path, [ONE, TWO], "data-00000-of-00001.arrow")
    save_to_disk(tmp_path, [ONE], "cache-0123.arrow")
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    assert len(load_labelled(tmp_path)) == 2


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("no", "is damaged: it must list _data_files"),
        ('{"_data_files": 3}', "is damaged: it must list _data_files"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "names gone.arrow, which is missing"),
    ],
)
def test_a_damaged_saved_data_set_is_an_error(tmp_path, state, message):
    save_to_disk(tmp_path, [ONE], "data.arrow")
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(DataError, match=message):
        load_labelled(tmp_path)


def test_a_name_that_is_too_long_is_an_error():
    with pytest.raises(DataError, match="no such file or folder: the name is too long"):
        load_labelled("a" * 5000)


@pytest.mark.parametrize("weakness", [89, "89", ["CWE-89", "NVD-CWE-noinfo"], "CWE-89;CWE-Other"])
def test_published_rows_keep_their_weakness_however_it_is_written(tmp_path, weakness):
    file = tmp_path / "data.jsonl"
    row = {"lang": "java", "function": "void f() {}", "vulnerable": 1, "cwe_id": weakness}
    file.write_text(json.dumps(row))
    assert [row.cwe for row in load_labelled(file)] == [("CWE-89",)]
