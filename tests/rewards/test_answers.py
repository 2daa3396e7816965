"""One parsed answer per completion, and the worked examples of the rewards."""

import pytest

from seccoderx_lite.core.records import Task
from seccoderx_lite.rewards import answers
from seccoderx_lite.rewards.answers import parse_answer
from seccoderx_lite.rewards.unit_tests import measured_code

CODE = "def double(x):\n    return x + x"
TASK = Task("t", "Write double(x).", "python", ("CWE-95",), CODE)


@pytest.mark.parametrize(
    ("completion", "code", "is_truncated", "is_stub", "is_real_code"),
    [
        (f"```python\n{CODE}\n```", CODE, False, False, True),
        (f"```python\n{CODE}", CODE, True, False, False),
        ("```python\ndef double(x:\n    return x + x\n```", None, False, False, False),
        ("```python\npass\n```", "pass", False, True, False),
        ("```python\n```", "", False, True, False),
        ("I can't help with that.", "", False, True, False),
        ("Here is the plan.", "", False, False, False),
        (CODE, CODE, False, False, False),
        (f"<think>\n{CODE}", "", True, False, False),
    ],
    ids=["code", "truncated", "does not parse", "stub", "empty", "refusal", "prose", "bare", "cut"],
)
def test_an_answer_says_what_its_code_is(completion, code, is_truncated, is_stub, is_real_code):
    answer = parse_answer(completion, TASK)
    assert code is None or answer.code == code
    assert (answer.is_truncated, answer.is_stub) == (is_truncated, is_stub)
    assert answer.is_real_code is is_real_code


@pytest.mark.parametrize(
    "completion", [f"```python\n{CODE}\n```", f"```python\n{CODE}", CODE, "No."]
)
def test_training_and_evaluation_agree_on_the_program_of_an_answer(completion):
    assert parse_answer(completion, TASK).found == measured_code(TASK, completion)


def test_the_code_of_an_answer_is_parsed_once(monkeypatch):
    parsed = []
    parse = answers.parse
    monkeypatch.setattr(answers, "parse", lambda *given: parsed.append(given) or parse(*given))
    answer = parse_answer(f"```python\n{CODE}\n```", TASK)
    assert answer.parses and not answer.is_stub and answer.is_real_code
    assert parsed == [(CODE, "python")]
