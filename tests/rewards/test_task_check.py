import logging

import pytest

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Task
from seccoderx_lite.rewards.task_check import sound_tasks
from seccoderx_lite.sandbox import Sandbox

ADD = {"kind": "calls", "entry_point": "add", "functionality": [{"args": [1, 2], "expect": 3}]}
LOCK = {
    "kind": "calls",
    "source": "import threading\nfrom candidate import add\ndef test_a(): add(threading.Lock(), 1)",
}
RIGHT, WRONG = "def add(a, b): return a + b", "def add(a, b): return a - b"


def task(name, reference, tests=ADD):
    return Task(name, "Add.", "python", reference=reference, tests=tests)


TASKS = [
    task("right", RIGHT),
    task("wrong", WRONG),
    task("no reference", None),
    task("no tests", WRONG, None),
    task("cannot run", RIGHT, LOCK),
]


class CountingSandbox(Sandbox):
    runs = 0

    def submit_tests(self, *arguments, **named):
        self.runs += 1
        return super().submit_tests(*arguments, **named)


@pytest.fixture(scope="module")
def sandbox():
    with CountingSandbox("limits-only", workers=1) as opened:
        yield opened


def test_tasks_whose_reference_fails_are_named_and_left_out_and_checked_once(
    sandbox, tmp_path, caplog
):
    known = tmp_path / "checks.json"
    sandbox.runs = 0
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            kept = sound_tasks(TASKS, "t.jsonl", "drop", sandbox, known)
        assert [one.id for one in kept] == ["right", "no reference", "no tests"]
    assert sandbox.runs == 3
    assert "2 of 5 tasks fail" in caplog.text
    assert "wrong: failed: functionality[0]" in caplog.text and "test_a:" in caplog.text


def test_a_run_can_be_refused_or_left_unchecked(sandbox, tmp_path):
    known = tmp_path / "checks.json"
    with pytest.raises(DataError, match=r"(?s)wrong: failed.*tasks.check: off"):
        sound_tasks(TASKS, "t.jsonl", "refuse", sandbox, known)
    assert sound_tasks(TASKS, "t.jsonl", "off", sandbox, known) == TASKS
    assert sound_tasks(TASKS, "builtin:tiny/tasks", "refuse", sandbox, known) == TASKS


def test_no_task_left_is_an_error(sandbox, tmp_path):
    with pytest.raises(DataError, match="1 of 1 tasks fail"):
        sound_tasks([task("wrong", WRONG)], "t", "drop", sandbox, tmp_path / "checks.json")


INSECURE = {**ADD, "security": [{"args": ["1", 2], "raises": "TypeError", "kwargs": {}}]}
UNTYPED = "def add(a, b): return 3"


def test_an_insecure_reference_is_left_out_only_where_security_tests_count(
    sandbox, tmp_path, caplog
):
    tasks = [task("right", RIGHT), task("insecure", UNTYPED, INSECURE)]
    known = tmp_path / "checks.json"
    for counts, kept in ((True, ["right"]), (False, ["right", "insecure"])):
        with caplog.at_level(logging.WARNING):
            found = sound_tasks(tasks, "t", "drop", sandbox, known, with_security=counts)
        assert [one.id for one in found] == kept
    assert "insecure: only security tests fail: failed: security[0]" in caplog.text


def test_reference_that_the_sandbox_cannot_run_proves_nothing(sandbox, tmp_path, monkeypatch):
    def fail(*arguments):
        raise SandboxError("no node")

    monkeypatch.setattr(sandbox, "_test", fail)
    known = tmp_path / "checks.json"
    assert len(sound_tasks([task("right", RIGHT)], "t", "refuse", sandbox, known)) == 1
    assert known.read_text().strip() == "{}"
