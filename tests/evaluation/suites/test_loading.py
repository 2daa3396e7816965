"""Which tasks of a source are evaluated, and which of them together."""

import json

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.evaluation.suites.loading import load_suite

FUNCTIONAL = {"kind": "calls", "source": "from candidate import f\ndef test_f(): assert f()"}
TESTS = {
    "kind": "calls",
    "source": FUNCTIONAL["source"] + "\n@pytest.mark.security\ndef test_s(): assert f()",
}
CASES = {"kind": "stdio", "functionality": [{"stdin": "", "stdout": "1"}], "security": None}


def source(tmp_path, *rows):
    file = tmp_path / "tasks.jsonl"
    task = {"prompt": "Write f.", "language": "python", "tests": TESTS}
    lines = [json.dumps({"id": str(number), **task, **row}) for number, row in enumerate(rows)]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def test_splits_of_which_none_is_measured_are_refused(tmp_path):
    file = source(tmp_path, {"cwe": ["CWE-89"], "split": "test"}, {"cwe": [], "split": "train"})
    with pytest.raises(DataError, match=r"has only test, train; rename one"):
        load_suite(file)


def test_benign_tasks_among_others_are_a_suite_of_their_own(tmp_path):
    file = source(tmp_path, {"cwe": ["CWE-89"]}, {"cwe": []}, {"cwe": ["CWE-22"]})
    found = {suite.name: [task.id for task in suite.tasks] for suite in load_suite(file)}
    assert found == {file: ["0", "2"], f"{file}/benign": ["1"]}


def test_each_measured_split_is_a_suite(tmp_path):
    weak = {"cwe": ["CWE-89"]}
    splits = ("train", "held_out", "transfer", "held_out")
    file = source(tmp_path, *[{**weak, "split": split} for split in splits])
    found = {suite.name: len(suite.tasks) for suite in load_suite(file)}
    assert found == {f"{file}/held_out": 2, f"{file}/transfer": 1}


@pytest.mark.parametrize("tests", [FUNCTIONAL, CASES])
def test_a_task_with_a_weakness_and_no_security_test_is_named_and_left_out(tests, tmp_path, caplog):
    weak = {"cwe": ["CWE-89"]}
    file = source(tmp_path, weak, {**weak, "tests": tests})
    assert [[task.id for task in suite.tasks] for suite in load_suite(file)] == [["0"]]
    assert "1 of 2 tasks name a weakness and have no security test (1)" in caplog.text


def test_tasks_of_which_none_has_the_security_test_it_needs_are_refused(tmp_path):
    file = source(tmp_path, {"cwe": ["CWE-89"], "tests": FUNCTIONAL})
    with pytest.raises(DataError, match="or remove cwe to measure function alone"):
        load_suite(file)


SECURITY_ALONE = {"kind": "calls", "entry_point": "f", "security": [{"args": [1], "expect": 1}]}


def test_a_task_without_functional_tests_is_named_and_left_out(tmp_path, caplog):
    file = source(tmp_path, {"cwe": ["CWE-89"]}, {"cwe": ["CWE-89"], "tests": SECURITY_ALONE})
    assert [[task.id for task in suite.tasks] for suite in load_suite(file)] == [["0"]]
    assert "1 of 2 tasks have no functional test (1)" in caplog.text
    alone = source(tmp_path, {"cwe": [], "tests": SECURITY_ALONE})
    with pytest.raises(DataError, match="have no functional test"):
        load_suite(alone)
