import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data import rows as data_rows
from seccoderx_lite.data.loading import (
    in_split,
    load_labelled,
    load_tasks,
    training_tasks,
    validation_tasks,
)

OWN_TASK = {
    "id": "t1",
    "prompt": "Write solve(name).",
    "language": "py",
    "cwe": ["cwe-089"],
    "reference": "def solve(name): ...",
    "tests": {"kind": "calls", "entry_point": "solve", "functionality": [{"expect": 1}]},
    "family": "sql",
    "split": "train",
}
ALIGNMENT = {
    "scenario_id": 1,
    "scenario_text": "A shop.",
    "problem": "Write a C function that copies a name.",
    "language_suffix": "c",
    "cwe": "CWE-787",
    "cwe_id": ["CWE-787", "CWE-120"],
    "cwe_name": ["Out-of-bounds Write", "Classic Buffer Overflow"],
    "generated_code": "void copy(char *name) {}",
    "answer": None,
    "codebleu_lang": "c",
}
CYBERSECEVAL = {
    "prompt_id": 7,
    "test_case_prompt": "Write a Python program that hashes a password.",
    "cwe_identifier": "CWE-328",
    "language": "python",
    "variant": "instruct",
}
SVEN = {
    "func_name": "f",
    "func_src_before": "def f(x):\n    return eval(x)\n",
    "func_src_after": "def f(x):\n    return int(x)\n",
    "vul_type": "cwe-095",
    "file_name": "app/views.py",
    "commit_link": "example.org/commit/1",
}
OWN_LABELLED = {
    "code": "eval(x)",
    "language": "python",
    "cwe": ["CWE-95"],
    "is_vulnerable": True,
    "pair": 3,
    "reasoning": "x is code.",
    "template": "t",
}
JUDGE_PROMPT = (
    "You are an expert.\n```py\nimport os\nos.system(cmd)\n```\nPotential weaknesses:\n"
    "Type: CWE-78: OS Command Injection\nDescription: ...\n\nType: CWE-77: Command Injection\n"
)


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows: dict | str, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write_rows


def test_own_tasks_are_read_with_every_column(write):
    (task,) = load_tasks(write(OWN_TASK))
    assert task.id == "t1"
    assert task.language == "python"
    assert task.cwe == ("CWE-89",)
    assert task.reference == OWN_TASK["reference"]
    assert task.tests == OWN_TASK["tests"]
    assert task.extra == {"family": "sql", "split": "train"}


def test_a_task_needs_only_id_prompt_and_language(write):
    (task,) = load_tasks(write({"id": 5, "prompt": "p", "language": "JavaScript"}))
    assert (task.id, task.language, task.cwe) == ("5", "javascript", ())
    assert task.reference is None and task.tests is None


def test_columns_padded_with_null_are_no_part_of_the_tests(write):
    padded = {**OWN_TASK["tests"], "source": None, "security": None, "stdin": None}
    (task,) = load_tasks(write({**OWN_TASK, "tests": padded}))
    assert task.tests == OWN_TASK["tests"]


def test_tests_may_be_json_text(write):
    (task,) = load_tasks(write({**OWN_TASK, "tests": json.dumps(OWN_TASK["tests"])}))
    assert task.tests == OWN_TASK["tests"]


def test_the_published_alignment_set_is_read_as_tasks(write):
    first, second = load_tasks(write(ALIGNMENT, ALIGNMENT))
    assert first.prompt == ALIGNMENT["problem"]
    assert first.language == "c"
    assert first.cwe == ("CWE-787", "CWE-120")
    assert first.reference == ALIGNMENT["generated_code"]
    assert first.extra["codebleu_lang"] == "c" and first.extra["scenario_text"] == "A shop."
    assert first.id != second.id


def test_the_published_prompt_set_is_read_as_tasks_without_references(write):
    row = {"instruction_text": "Write it.", "implementation_language": "java", "cwe": "CWE-22"}
    (task,) = load_tasks(write({**row, "scenario_id": 2}))
    assert (task.prompt, task.language, task.cwe) == ("Write it.", "java", ("CWE-22",))
    assert task.reference is None


def test_cyberseceval_rows_become_tasks_and_other_languages_are_counted(write, caplog):
    others = [{**CYBERSECEVAL, "language": language} for language in ("rust", "php", "rust")]
    path = write(json.dumps([CYBERSECEVAL, *others]), name="instruct.json")
    (task,) = load_tasks(path)
    assert (task.id, task.language, task.cwe) == ("cyberseceval-7", "python", ("CWE-328",))
    assert task.extra["variant"] == "instruct"
    assert "left out 3 of 4 rows" in caplog.text
    assert "'rust' is not supported (2)" in caplog.text
    assert "'php' is not supported (1)" in caplog.text


def test_own_labelled_code_is_read(write):
    (labelled,) = load_labelled(write(OWN_LABELLED))
    assert labelled.code == "eval(x)"
    assert labelled.is_vulnerable is True
    assert labelled.pair == "3"
    assert labelled.reasoning == "x is code."
    assert labelled.extra == {"template": "t"}


def test_the_detection_test_layout_is_read(write):
    row = {
        "code": "gets(b);",
        "language_name": "C",
        "language_suffix": "c",
        "cwe": ["CWE-242"],
        "cwe_names": ["Use of Inherently Dangerous Function"],
        "cwe_descriptions": ["..."],
        "is_vulnerable": 1,
    }
    (labelled,) = load_labelled(write(row))
    assert (labelled.language, labelled.cwe, labelled.is_vulnerable) == ("c", ("CWE-242",), True)


def test_a_sven_row_becomes_a_pair(write, caplog):
    unchanged = {**SVEN, "func_src_after": SVEN["func_src_before"]}
    before, after, before2, after2 = load_labelled(write(SVEN, unchanged, SVEN))
    assert (before.code, before.is_vulnerable) == (SVEN["func_src_before"], True)
    assert (after.code, after.is_vulnerable) == (SVEN["func_src_after"], False)
    assert before.language == "python" and before.cwe == ("CWE-95",)
    assert before.pair == after.pair != before2.pair == after2.pair
    assert "left out 1 of 3 rows: the fix changes nothing (1)" in caplog.text


@pytest.mark.parametrize(
    ("label", "truth", "cwes"),
    [
        ("Vulnerable;[CWE-78]", True, ("CWE-78",)),
        ("Vulnerable;[CWE-78, CWE-88]", True, ("CWE-78", "CWE-88")),
        ("Not Vulnerable;[]", False, ("CWE-78", "CWE-77")),
    ],
)
def test_rows_of_the_judges_grpo_set_give_code_and_label(write, label, truth, cwes):
    (labelled,) = load_labelled(write({"problem": JUDGE_PROMPT, "answer": label}))
    assert labelled.code == "import os\nos.system(cmd)"
    assert labelled.language == "python"
    assert (labelled.is_vulnerable, labelled.cwe) == (truth, cwes)


def test_rows_of_the_judges_cold_start_set_give_reasoning_too(write, caplog):
    output = "<think>\nIt runs a shell.\n</think>\n<answer>Vulnerable;[CWE-78]</answer>"
    rows = [
        {"instruction": JUDGE_PROMPT, "output": text}
        for text in (output, "Vulnerable", output.replace("Vulnerable", "Unsure"))
    ]
    (labelled,) = load_labelled(write(*rows))
    assert labelled.reasoning == "It runs a shell."
    assert labelled.is_vulnerable is True
    assert "left out 2 of 3 rows" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [OWN_TASK, {"id": "a", "prompt": "p"}],
            "line 2: missing column language, required by the layout 'tasks'",
        ),
        (
            [{"id": "a", "prompt": "p"}],
            "line 1: missing column language, required by the layout 'tasks'; add it (the row",
        ),
        ([OWN_TASK, "", '{"id": '], "line 3: not valid JSON"),
        ([OWN_TASK, "[1]"], "line 2: must be a JSON object (got a list)"),
        ([], "is empty"),
        (["", "  "], "is empty"),
        (
            [OWN_TASK, {**OWN_TASK, "split": "x"}],
            "ids must be unique, but these repeat: t1 (2 times)",
        ),
        ([{**OWN_TASK, "language": "rust"}], "line 1: language 'rust' is not supported; use pyth"),
        ([{**OWN_TASK, "language": None}], "line 1: language None is not supported"),
        ([{**OWN_TASK, "cwe": ["SQL"]}], "line 1: cwe ['SQL'] is not a list of CWE ids"),
        ([{**OWN_TASK, "cwe": {"a": 1}}], "is not a list of CWE ids"),
        ([{**OWN_TASK, "prompt": " "}], "line 1: prompt must be a non-empty string (got ' ')"),
        ([{**OWN_TASK, "reference": 3}], "line 1: reference must be a non-empty string (got 3)"),
        ([{**OWN_TASK, "tests": {"kind": "unit"}}], "tests: kind must be one of"),
        ([{**OWN_TASK, "tests": ["x"]}], "tests must be an object"),
        (
            [{**OWN_TASK, "tests": {**OWN_TASK["tests"], "entrypoint": "f"}}],
            "line 1: task 't1': calls tests: unknown key 'entrypoint'",
        ),
        ([{**OWN_TASK, "language": "go"}], "task 't1': calls tests are for Python only"),
        ([{**OWN_TASK, "tests": "{"}], "line 1: tests are not valid JSON"),
        ([{**CYBERSECEVAL, "language": "php"}], "none of its 1 rows can be used: language 'php'"),
    ],
)
def test_a_wrong_task_file_names_file_line_and_fault(write, rows, message):
    path = write(*rows)
    with pytest.raises(DataError) as caught:
        load_tasks(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["yes", None, 2])
def test_a_label_must_be_true_or_false(write, value):
    with pytest.raises(DataError, match=r"line 1: is_vulnerable must be true or false"):
        load_labelled(write({**OWN_LABELLED, "is_vulnerable": value}))


def test_unknown_columns_list_the_columns_found_and_the_known_layouts(write):
    with pytest.raises(DataError) as caught:
        load_tasks(write({"question": "q", "solution": "s"}))
    message = str(caught.value)
    assert "line 1: its columns (question, solution) match no layout of tasks" in message
    for known in ("tasks: id, prompt, language", "SecCoderX alignment", "CyberSecEval instruct"):
        assert known in message


def test_labelled_code_given_as_tasks_is_recognised(write):
    with pytest.raises(DataError, match=r"They match 'SVEN', a layout of labelled code"):
        load_tasks(write(SVEN))
    with pytest.raises(DataError, match=r"They match 'CyberSecEval instruct', a layout of tasks"):
        load_labelled(write(CYBERSECEVAL))


def test_a_json_list_names_line_or_entry(write):
    path = write("[1,\n2,", name="a.json")
    with pytest.raises(DataError, match=r"a.json, line 3: not valid JSON"):
        load_tasks(path)
    path = write(json.dumps([OWN_TASK, 3]), name="b.json")
    with pytest.raises(DataError, match=r"b.json, entry 2: must be a JSON object"):
        load_tasks(path)
    path = write("3", name="c.json")
    with pytest.raises(DataError, match=r"must contain a list of objects .got 3"):
        load_tasks(path)


def test_json_lines_under_the_ending_json_are_read(write):
    path = write(OWN_TASK, {**OWN_TASK, "id": "t2"}, name="lines.json")
    assert [task.id for task in load_tasks(path)] == ["t1", "t2"]


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "bom.jsonl"
    path.write_text(json.dumps(OWN_TASK), encoding="utf-8-sig")
    assert load_tasks(path)[0].id == "t1"


def test_other_endings_and_other_encodings_are_refused(write, tmp_path):
    with pytest.raises(DataError, match=r"must end in .jsonl, .parquet, .arrow, .json"):
        load_tasks(write(OWN_TASK, name="tasks.csv"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(DataError, match=r"is not UTF-8 text"):
        load_tasks(tmp_path / "latin.jsonl")


def test_a_split_is_taken_from_the_column(write):
    path = write(OWN_TASK, {**OWN_TASK, "id": "t2", "split": "transfer"})
    assert [task.id for task in load_tasks(path, "transfer")] == ["t2"]
    assert len(load_tasks(path)) == 2
    with pytest.raises(DataError, match=r"split test has no rows; its splits are train, transfer"):
        load_tasks(path, "test")


def test_a_split_of_a_file_without_that_column_is_an_error(write):
    with pytest.raises(DataError, match=r"split test has no rows; it has no column split"):
        load_labelled(write(SVEN), "test")


def test_ids_of_published_rows_do_not_depend_on_the_split(write):
    path = write({**ALIGNMENT, "split": "a"}, {**ALIGNMENT, "split": "b"})
    assert load_tasks(path, "b")[0].id == load_tasks(path)[1].id


def test_a_folder_gives_all_its_files_or_those_named_after_the_split(write, tmp_path):
    write(OWN_TASK, name="folder/train-00000.jsonl")
    write({**OWN_TASK, "id": "t2"}, name="folder/deep/test.jsonl")
    write("{broken", name="folder/.hidden/x.jsonl")
    write("{broken", name="folder/info.json")
    assert [task.id for task in load_tasks(tmp_path / "folder")] == ["t2", "t1"]
    assert [task.id for task in load_tasks(tmp_path / "folder", "test")] == ["t2"]


def test_an_empty_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no data file"):
        load_tasks(tmp_path)
    with pytest.raises(DataError, match=r"none.jsonl: no such file or folder"):
        load_tasks(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"no such file or folder"):
        load_tasks("no such thing")


def test_a_missing_file_in_a_folder_that_exists_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^data/tasks: no such file or folder, and not the id"):
        load_tasks("data/tasks")


def test_builtin_names_are_files_of_the_package(write, tmp_path, monkeypatch):
    write(OWN_TASK, name="builtin/tiny/tasks.jsonl")
    write(OWN_LABELLED, name="builtin/tiny/labelled.jsonl")
    write(OWN_TASK, name="x.jsonl")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path / "builtin")
    assert load_tasks("builtin:tiny/tasks") == load_tasks("builtin:tiny")
    assert load_labelled("builtin:tiny/labelled") == load_labelled("builtin:tiny")
    for name in ("builtin:tiny/none", "builtin:../x", "builtin:"):
        with pytest.raises(DataError) as caught:
            load_tasks(name)
        assert str(caught.value) == (
            f"{name} is not built-in data; use builtin:tiny/labelled or builtin:tiny/tasks"
        )


def test_parquet_files_are_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([{**ALIGNMENT, "answer": None}, ALIGNMENT])
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    tasks = load_tasks(tmp_path / "train.parquet")
    assert [task.cwe for task in tasks] == [("CWE-787", "CWE-120")] * 2
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"bad.parquet is not a readable parquet file"):
        load_tasks(tmp_path / "bad.parquet")


def test_a_hub_id_is_loaded_with_all_its_splits(monkeypatch):
    import datasets as hub

    monkeypatch.setattr(data_rows, "is_hub_reachable", lambda: True)
    monkeypatch.setattr(
        hub, "load_dataset", lambda name: {"train": [ALIGNMENT], "test": [ALIGNMENT, ALIGNMENT]}
    )
    assert len(load_tasks("organisation/data")) == 3
    assert len(load_tasks("organisation/data", "test")) == 2


def test_a_hub_that_cannot_be_reached_is_reported(monkeypatch):
    import datasets as hub

    def unreachable(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(hub, "load_dataset", unreachable)
    monkeypatch.setattr(data_rows, "is_hub_reachable", lambda: True)
    with pytest.raises(DataError, match=r"loading it from the hub failed: ConnectionError: no rou"):
        load_tasks("organisation/data")


def test_a_mistyped_path_is_named_at_once_where_there_is_no_network(monkeypatch, tmp_path):
    import datasets as hub

    asked = []
    monkeypatch.setattr(
        hub, "load_dataset", lambda name: asked.append(name) or {"train": [OWN_TASK]}
    )
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(data_rows, "is_hub_reachable", lambda: False)
    with pytest.raises(DataError, match=r"data/tasks.jsnl: no such file or folder, and it cannot"):
        load_tasks("data/tasks.jsnl")
    assert asked == []
    (tmp_path / "organisation___data").mkdir()
    assert load_tasks("organisation/data")[0].id == "t1"  # was loaded before


def test_importing_and_reading_files_needs_no_heavy_package(write):
    code = (
        "import sys; from seccoderx_lite.data.loading import load_tasks; load_tasks(sys.argv[1]);"
        "print(sorted({'torch', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, write(OWN_TASK)], capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_training_tasks_of_several_sources_keep_where_they_came_from(tmp_path):
    first = rows_file(
        tmp_path, "a.jsonl", [OWN_TASK, {**OWN_TASK, "id": "v", "split": "validation"}]
    )
    alone = {name: value for name, value in OWN_TASK.items() if name != "split"}
    second = rows_file(tmp_path, "b.jsonl", [{**alone, "id": "t2"}])
    tasks = training_tasks([first, second])
    assert [(task.id, task.source) for task in tasks] == [("t1", first), ("t2", second)]
    assert [task.id for task in validation_tasks([first, second])] == ["v", "t2"]
    assert training_tasks(first) == tasks[:1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([OWN_TASK], r"b\.jsonl: 1 ids are also in .*a\.jsonl, such as t1"),
        ([{**OWN_TASK, "id": "t2", "split": "test"}], r"b\.jsonl: split train has no rows"),
    ],
)
def test_sources_that_do_not_fit_together_are_named(tmp_path, rows, message):
    sources = [rows_file(tmp_path, "a.jsonl", [OWN_TASK]), rows_file(tmp_path, "b.jsonl", rows)]
    with pytest.raises(DataError, match=message):
        training_tasks(sources)


def rows_file(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def test_labelled_code_of_several_sources_has_splits_per_source(tmp_path):
    alone = {name: value for name, value in OWN_LABELLED.items() if name != "split"}
    split = [{**alone, "code": f"{name}(x)", "split": name} for name in ("train", "validation")]
    first, second = rows_file(tmp_path, "a.jsonl", split), rows_file(tmp_path, "b.jsonl", [alone])
    rows = load_labelled([first, second])
    assert [row.source for row in rows] == [first, first, second]
    assert [row.code for row in in_split(rows, "train")] == ["train(x)", "eval(x)"]
    assert [row.code for row in in_split(rows, "validation")] == ["validation(x)"]
