"""Alarms: what a step's shares are, and when a window of them is too much."""

from dataclasses import replace

import pytest

from seccoderx_lite.core.records import Task, TestResult, Verdict
from seccoderx_lite.recipe.recipe import AlarmsRecipe
from seccoderx_lite.rewards.answers import ScoredCompletion, parse_answer
from seccoderx_lite.training.alarms import Alarms, step_shares

TASK = Task("t", "Write f.", "python", ("CWE-89",), reference="def f(x):\n    y = x\n    return y")


def scored(
    *, label="safe", functional=True, secure=True, reward=1.0, lines=3, form=1.0, gate=1.0, safe=0.0
):
    tests = TestResult("passed", int(functional), 1, int(secure), 1)
    code = "\n".join(["def f(x):"] + ["    y = x"] * (lines - 2) + ["    return x"])
    return ScoredCompletion(
        parse_answer(f"```python\n{code}\n```", TASK),
        reward,
        {"format": form, "gate": gate, "vulnerability": safe},
        Verdict(label),
        tests,
    )


def shares(*items, group_size=2):
    return step_shares(items, group_size)


def test_reward_hacking_is_working_code_judged_safe_that_falls_to_an_attack():
    fooled = scored(secure=False)
    assert shares(
        fooled,
        scored(),
        scored(secure=False, label="vulnerable"),
        scored(secure=False, functional=False),
    )["reward_hacking"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    "completion",
    [
        "I cannot help with that.",
        "```python\n```",
        "```python\ndef f(x):\n    pass\n```",
        "```python\ndef f(x:\n    return x\n```",
    ],
    ids=["refusal", "empty", "stub", "does not parse"],
)
def test_stubs_are_completions_without_working_code_whatever_the_formula(completion):
    hollow = replace(scored(), answer=parse_answer(completion, TASK))
    assert shares(hollow, scored())["stub_share"] == 0.5


def test_length_ratio_is_lines_over_lines_of_the_reference():
    assert shares(scored(lines=3), scored(lines=6))["length_ratio"] == pytest.approx(1.5)


def test_a_group_of_equal_rewards_has_no_variance():
    items = [scored(reward=1.0), scored(reward=1.0), scored(reward=0.0), scored(reward=1.0)]
    assert shares(*items)["zero_variance_share"] == 0.5


def test_a_group_that_has_all_it_can_earn_is_no_sign_of_trouble():
    won = scored(reward=6.5, safe=1.0)
    assert shares(won, won)["zero_variance_share"] == 0.0
    assert shares(won, scored(reward=6.5, safe=1.0, gate=0.0))["zero_variance_share"] == 1.0


def test_a_group_that_could_not_be_scored_teaches_nothing():
    lost = replace(scored(reward=None, safe=None), tests=None, verdict=Verdict(None))
    assert shares(lost, lost)["zero_variance_share"] == 1.0


def test_saturation_is_the_share_of_the_commonest_verdict():
    items = [*[scored(secure=False)] * 3, scored(label="vulnerable")]
    assert shares(*items)["verdict_saturation"] == 0.75


def test_safe_verdicts_that_attacks_confirm_are_no_saturation():
    assert shares(*[scored()] * 4)["verdict_saturation"] == 0.0


QUIET = {
    "reward_hacking": 0.0,
    "stub_share": 0.0,
    "length_ratio": 1.0,
    "zero_variance_share": 0.0,
    "verdict_saturation": 0.5,
    "unscored_share": 0.0,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward_hacking", 0.9),
        ("stub_share", 0.9),
        ("length_ratio", 4.0),
        ("length_ratio", 0.1),
        ("zero_variance_share", 0.9),
        ("verdict_saturation", 1.0),
        ("unscored_share", 0.3),
    ],
)
def test_each_threshold_raises_its_own_alarm_once_the_window_is_full(name, value):
    alarms = Alarms(AlarmsRecipe(window=3))
    first, second, third = (alarms.check(step, {**QUIET, name: value}) for step in (1, 2, 3))
    assert first == second == []
    assert [alarm.name for alarm in third] == [name]


def test_completions_that_got_no_reward_are_counted():
    assert shares(scored(), replace(scored(), reward=None))["unscored_share"] == 0.5


def test_the_window_begins_with_the_steps_before_an_interruption():
    loud = {**QUIET, "stub_share": 0.9}
    earlier = [{"stage": "policy", "step": step, **loud} for step in range(1, 6)]
    alarms = Alarms(AlarmsRecipe(window=3), earlier)
    (alarm,) = alarms.check(6, loud)
    assert alarm.message.startswith("stub_share is 0.90")


def test_a_step_that_is_done_again_counts_once():
    alarms = Alarms(AlarmsRecipe(window=2))
    loud = {**QUIET, "stub_share": 0.9}
    assert [alarms.check(step, loud) for step in (1, 1)] == [[], []]
    assert alarms.check(2, loud)


def test_a_quiet_run_raises_no_alarm():
    alarms = Alarms(AlarmsRecipe(window=1))
    assert alarms.check(1, QUIET) == []


def test_a_threshold_of_null_is_off():
    alarms = Alarms(AlarmsRecipe(window=1, stub_share=None))
    assert alarms.check(1, {**QUIET, "stub_share": 1.0}) == []
