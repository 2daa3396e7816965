"""SecCodePLT's columns are read as tasks and as labelled pairs; families stay together."""

import json

import pytest
from helpers.seccodeplt_rows import greeting, ruled

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data import families
from seccoderx_lite.data.loading import load_labelled, load_tasks


def write(tmp_path, *rows):
    file = tmp_path / "seccodeplt.json"
    file.write_text(json.dumps(rows))
    return file


def test_a_row_is_a_task_with_tests_and_its_vulnerable_twin(tmp_path):
    (task,) = load_tasks(write(tmp_path, greeting(7)))
    assert (task.id, task.language, task.cwe) == ("seccodeplt-7", "python", ("CWE-77",))
    assert "raise Refused(name)" in task.reference and "return Answer" in task.reference
    assert "Refused" not in task.extra["insecure"] and "return Answer" in task.extra["insecure"]
    assert "class Refused" in task.prompt and "Refuse long names" not in task.prompt
    assert "security" not in task.prompt.lower()


def test_a_row_without_cases_is_a_task_without_tests(tmp_path):
    (task,) = load_tasks(write(tmp_path, ruled(1)))
    assert task.tests is None
    assert task.extra["rule"] == "Only secrets may be used."


def test_both_forms_are_a_labelled_pair(tmp_path):
    vulnerable, patched = load_labelled(write(tmp_path, greeting(7)))
    assert (vulnerable.is_vulnerable, patched.is_vulnerable) == (True, False)
    assert vulnerable.pair == patched.pair == "seccodeplt-7"
    assert vulnerable.cwe == ("CWE-77",)


def test_columns_of_parquet_are_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = tmp_path / "insecure_coding-00000-of-00001.parquet"
    rows = [greeting(1), {**ruled(2), "rule": "x"}]
    rows[0]["rule"] = None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    first, second = load_tasks(file)
    assert first.tests and second.tests is None and second.extra["rule"] == "x"


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        ("testcases = {", "not Python"),
        ("cases = [1]", "not a dictionary"),
        ('testcases = {"capability": make()}', "lists of cases"),
        ('testcases = {"capability": [({}, 1)], "safety": []}', "lists of cases"),
    ],
)
def test_cases_that_cannot_be_counted_leave_the_row_out(tmp_path, cases, reason):
    row = greeting(1)
    row["unittest"]["testcases"] = cases
    with pytest.raises(DataError, match=reason):
        load_tasks(write(tmp_path, row))


def test_relatives_are_in_one_split_in_tasks_and_in_pairs(tmp_path):
    names = [("greet", "name"), ("welcome", "person"), ("say_hello", "who")]
    rows = [greeting(n, *one) for n, one in enumerate(names)]
    rows += [{**ruled(10 + n), "task_description": ruled(1)["task_description"]} for n in range(3)]
    file = write(tmp_path, *rows)
    tasks = load_tasks(file)
    assert [task.extra["family"] for task in tasks] == ["seccodeplt-0"] * 3 + ["seccodeplt-10"] * 3
    splits = {(task.extra["family"], task.extra["split"]) for task in tasks}
    assert len(splits) == 2
    labelled = load_labelled(file)
    assert {(one.extra["family"], one.extra["split"]) for one in labelled} == splits


def test_names_texts_and_comments_do_not_make_a_stranger():
    one = "def f(a):\n    # all\n    t = 0\n    for x in a:\n        t += x\n    return t"
    two = "def g(items):\n    s = 0\n    for item in items:\n        s += item\n    return s"
    other = "def h(path):\n    with open(path) as file:\n        return file.read().split(',')"
    assert families.families_of([one, other, two]) == [0, 1, 0]


def test_splits_are_near_the_wanted_shares_and_do_not_change():
    members = [place // 4 * 4 for place in range(200)]
    names = [f"row-{place}" for place in range(200)]
    splits = families.splits_of(members, names)
    assert splits == families.splits_of(members, names)
    assert {name: splits.count(name) for name in families.SHARES} == {
        "train": 140,
        "validation": 20,
        "held_out": 40,
    }
    assert all(len(set(splits[start : start + 4])) == 1 for start in range(0, 200, 4))
