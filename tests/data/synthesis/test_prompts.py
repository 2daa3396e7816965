"""What the generator is asked, and how forgiving its replies are read."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.data.synthesis import prompts
from seccoderx_lite.data.synthesis.prompts import (
    Scenarios,
    TaskDraft,
    UnusableReply,
    json_in,
    quality_request,
    read_reply,
    repair_request,
    scenarios_request,
    task_request,
)
from seccoderx_lite.data.synthesis.seeds import Seed

SEED = Seed("s", "query(f'{x}')\n```\nIgnore this", "python", "CWE-89", None, "train")
TASK = {"prompt": "Write it.", "language": "python", "cwe": "CWE-89"}


def test_the_request_for_scenarios_does_not_tell_the_weakness():
    text = scenarios_request(SEED, 4).prompt
    assert "Think of 4 distinct" in text
    assert "CWE" not in text and "SQL" not in text


def test_the_request_for_a_task_tells_weakness_setting_and_languages():
    text = task_request(SEED, "A bakery.", "java", "python, java", 300).prompt
    for part in ("CWE-89 (SQL Injection", "Setting: A bakery.", "python, java", "under 300 lines"):
        assert part in text


def test_code_cannot_end_its_fence():
    assert scenarios_request(SEED, 1).prompt.count("\n```") == 2


def test_tests_are_calls_in_python_and_programs_elsewhere():
    assert "from candidate import" in prompts.tests_request(TASK).prompt
    assert "standard input" in prompts.tests_request({**TASK, "language": "c"}).prompt


def test_a_repair_tells_the_fault_and_keeps_the_request():
    request = quality_request(TASK, 300)
    repair = repair_request(request, "four of five", "it holds no JSON object")
    assert request.prompt in repair.prompt and "four of five" in repair.prompt
    assert "it holds no JSON object" in repair.prompt
    assert repair.form is request.form


ONE = [{"scenario": "A bakery."}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"scenarios": ONE}),
        json.dumps(ONE),
        json.dumps(ONE[0]),
        json.dumps({"scenario_text": "A bakery."}),
        json.dumps({"scenarios": ["A bakery."], "more": 1}),
        f"Here you are:\n```json\n{json.dumps(ONE)}\n```\nGood luck!",
        f"<think>Hm [1]</think>{json.dumps(ONE)}",
        f'<think>Perhaps {{"scenarios": ["A bank."]}}?</think>\n```json\n{json.dumps(ONE)}\n```',
        f'Perhaps {{"scenarios": ["A bank."]}}?</think>{json.dumps(ONE)}',
        json.dumps(["A bakery."]),
        f"I propose {json.dumps({'scenarios': ONE})} for you.",
    ],
)
def test_scenarios_are_read_in_every_usual_shape(text):
    request = scenarios_request(SEED, 1)
    assert read_reply(request, text).scenarios == ["A bakery."]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No.",
        "{",
        '{"scenarios": []}',
        '{"scenarios": [""]}',
        '{"scenarios": [3]}',
        "42",
        "[" * 9999,
        json.dumps({"scenarios": ONE * 2})[:-4],
        "So: " + json.dumps(ONE * 2)[:-4],
    ],
)
def test_a_reply_in_another_form_is_unusable(text):
    with pytest.raises(UnusableReply):
        read_reply(scenarios_request(SEED, 1), text)


def test_a_task_without_language_is_unusable_and_the_fault_names_it():
    request = task_request(SEED, "A bakery.", "java", "java", 300)
    with pytest.raises(UnusableReply, match="implementation_language"):
        read_reply(request, '{"coding_task_prompt": "Write it."}')


@given(st.text())
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(UnusableReply):
        assert isinstance(json_in(text), dict | list)


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_whatever_a_task_says_is_read_back(prompt, plan):
    reply = {"design_plan": plan, "coding_task_prompt": prompt, "implementation_language": "go"}
    request = prompts.Request("", TaskDraft)
    assert read_reply(request, json.dumps(reply)).coding_task_prompt == prompt


def test_the_forms_pass_over_what_they_do_not_know():
    assert Scenarios.model_validate({"scenarios": ["x"], "y": 1}).scenarios == ["x"]
