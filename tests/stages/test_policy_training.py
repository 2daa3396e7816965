"""Which tasks the policy is trained on, and what stops its training."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from seccoderx_lite.core.errors import DataError, RunStopped
from seccoderx_lite.core.records import LabelledCode, Task
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.recipe.recipe import PolicyRecipe, check_recipe
from seccoderx_lite.rewards.answers import ScoredCompletion, parse_answer
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.stages.policy_training import rewardable_tasks
from seccoderx_lite.training.canaries import Canaries
from seccoderx_lite.training.policy_reward import CompositeReward
from seccoderx_lite.training.step_records import PhaseClock

WEAK = Task("weak", "Open the file.", "python", ("CWE-22",))
BENIGN = Task("benign", "Add two numbers.", "python")


def policy(formula="guarded", **sections):
    grpo = {"steps": 1, "learning_rate": 1e-4, "group_size": 2}
    return PolicyRecipe(tasks="t.jsonl", reward={"formula": formula}, grpo=grpo, **sections)


@pytest.mark.parametrize(("formula", "kept"), [("guarded", [WEAK, BENIGN]), ("seccoderx", [WEAK])])
def test_the_original_formula_trains_on_tasks_that_can_have_a_verdict(formula, kept):
    assert rewardable_tasks([WEAK, BENIGN], policy(formula)) == kept


def test_tasks_of_which_none_can_have_a_verdict_are_refused():
    with pytest.raises(DataError, match=r"t\.jsonl has a weakness .* use formula: guarded"):
        rewardable_tasks([BENIGN], policy("seccoderx"))


def pairs(count, split="validation"):
    """As many vulnerable as safe samples."""
    return [
        LabelledCode(
            f"{name}(text, {number})",
            "python",
            ("CWE-95",),
            is_vulnerable=name == "eval",
            extra={"split": split},
        )
        for number in range(count // 2)
        for name in ("eval", "int")
    ]


class ChangingGenerator:
    """A judge whose answer can be changed from outside, as damage to its weights would."""

    def __init__(self):
        self.answer = lambda prompt: "Vulnerable" if "eval(" in prompt else "Not Vulnerable"

    def generate(self, prompts, *, max_new_tokens, temperature):
        answers = map(self.answer, prompts)
        return [answer and f"<think>x</think><answer>{answer}</answer>" for answer in answers]


def canaries(generator, code=None, **settings):
    recipe = check_recipe(
        {
            "name": "x",
            "model": {"base": "b"},
            "judge": {"base": "b", "canaries": {"every": 2, "min_accuracy": 0.6, **settings}},
            "export": {},
        },
        "x",
    )
    return Canaries(Judge(generator, recipe.judge), recipe, code or pairs(200))


def test_canaries_are_judged_again_in_every_round_and_a_fall_stops_the_run():
    generator = ChangingGenerator()
    watch = canaries(generator)
    assert watch.check(1) == {}
    assert watch.check(2) == {"canary_accuracy": 1.0}
    generator.answer = lambda prompt: "Not Vulnerable"
    with pytest.raises(
        RunStopped, match=r"step 4: the judge is right on 50\.0% \[.*\] of 128 samples"
    ):
        watch.check(4)


def test_canaries_that_no_judge_answered_have_no_accuracy():
    generator = ChangingGenerator()
    generator.answer = lambda prompt: None
    assert canaries(generator).check(2) == {"canary_accuracy": None}


def wrong_on(share):
    """A judge that is wrong on every n-th sample."""

    def answer(prompt):
        number = int(re.search(r"\(text, (\d+)\)", prompt)[1])
        is_vulnerable = ("eval(" in prompt) == (number % 100 >= 100 * share)
        return "Vulnerable" if is_vulnerable else "Not Vulnerable"

    generator = ChangingGenerator()
    generator.answer = answer
    return generator


def test_canaries_are_drawn_again_and_a_judge_that_is_usually_right_goes_on():
    """With 16 samples and a bare threshold of 0.7, one test in five stopped such a judge."""
    watch = canaries(wrong_on(0.2), min_accuracy=0.7)
    seen = [watch.check(step)["canary_accuracy"] for step in range(2, 60, 2)]
    assert len(set(seen)) > 3
    assert 0.75 < sum(seen) / len(seen) < 0.85


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda prompt: "Vulnerable", r"right on 50\.0% \[41\.5%, 58\.5%\] of 128"),
        (lambda prompt: "no idea", r"right on 0\.0% .*100\.0% unclear"),
        (lambda prompt: None, r"without a verdict on any of 128 samples"),
        (
            lambda prompt: "Vulnerable" if "eval(" not in prompt else "Not Vulnerable",
            r"right on 0\.0% .*not surely better than chance",
        ),
    ],
)
def test_a_judge_at_chance_is_refused_before_the_first_step(answer, message, caplog):
    generator = ChangingGenerator()
    generator.answer = answer
    with pytest.raises(RunStopped, match=message):
        canaries(generator).measure()
    canaries(generator, refuse_chance=False).measure()
    assert "not surely better than chance" in caplog.text


def test_a_judge_that_knows_something_is_measured_on_held_out_code_with_its_interval(caplog):
    caplog.set_level("INFO")
    trained = [*pairs(400, "train"), *pairs(300, "held_out")]
    result = canaries(wrong_on(0.2), trained).measure()
    low, high = result["interval_95"]
    assert 0.5 < low < result["accuracy"] < high < 1.0
    assert re.search(r"of 128 samples .* of held-out code", caplog.text)


def test_code_without_splits_is_not_called_held_out(caplog):
    caplog.set_level("INFO")
    canaries(wrong_on(0.2), [replace(row, extra={}) for row in pairs(200)]).measure()
    assert "which it may have been trained on" in caplog.text


def test_labelled_code_of_one_kind_measures_no_judge(caplog):
    only = [row for row in pairs(200) if row.is_vulnerable]
    assert canaries(ChangingGenerator(), only).measure() == {}
    assert "all of one kind" in caplog.text


class RefusingScorer:
    """Scores completions as if the policy declined every task; one of a group is unscored."""

    def score(self, tasks, completions, on_judged):
        on_judged()
        parts = {"format": 0.0, "reward": 0.0}
        answers = [parse_answer(*pair) for pair in zip(completions, tasks, strict=True)]
        scored = [ScoredCompletion(answer, 0.0, parts) for answer in answers]
        scored[0] = ScoredCompletion(answers[0], None, {"format": 0.0, "reward": None})
        return scored


@pytest.fixture
def folder(tmp_path):
    recipe = check_recipe({"name": "x", "model": {"base": "b"}, "export": {}}, "x")
    with RunFolder.open(tmp_path / "run", recipe) as opened:
        yield opened


def step(reward, number=0):
    completions = [[{"role": "assistant", "content": "I cannot help with that."}]] * 2
    return reward(
        completions,
        ["weak", "weak"],
        [[1], [2]],
        SimpleNamespace(global_step=number),
        lambda name, value: None,
    )


def test_an_alarm_is_recorded_and_stops_the_run_if_the_recipe_says_so(folder):
    warns = policy(alarms={"window": 1})
    reward = CompositeReward([WEAK], RefusingScorer(), warns, folder, PhaseClock(), None)
    step(reward)
    (alarm,) = [a for a in reward.step_values(1)["alarms"] if a.startswith("stub_share")]
    assert "is 1.00, above 0.3" in alarm
    stops = policy(alarms={"window": 1, "action": "stop"})
    reward = CompositeReward([WEAK], RefusingScorer(), stops, folder, PhaseClock(), None)
    with pytest.raises(RunStopped, match="stopped at step 1: stub_share is"):
        step(reward)


def test_unscored_completions_have_no_reward_and_are_counted(folder):
    reward = CompositeReward([WEAK], RefusingScorer(), policy(), folder, PhaseClock(), None)
    assert step(reward) == [None, 0.0]
    assert reward.step_values(1)["unscored"] == 1


@pytest.mark.parametrize(("stage", "rings"), [("policy", True), ("align", False)])
def test_a_resumed_run_remembers_the_steps_its_alarms_are_about(folder, stage, rings):
    for number in (1, 2):
        folder.append_jsonl("metrics.jsonl", {"stage": stage, "step": number, "stub_share": 1.0})
    resumed = policy(alarms={"window": 3})
    reward = CompositeReward([WEAK], RefusingScorer(), resumed, folder, PhaseClock(), None)
    step(reward, number=2)
    assert any("stub_share" in alarm for alarm in reward.step_values(3)["alarms"]) is rings


def test_steps_that_an_interruption_lost_are_no_part_of_the_alarms_window(folder):
    lost = {"stage": "policy", "step": 3, "stub_share": 1.0}
    for number in (1, 2):
        folder.append_jsonl("metrics.jsonl", {"stage": "policy", "step": number, "stub_share": 0.0})
    folder.append_jsonl("metrics.jsonl", lost)
    resumed = policy(alarms={"window": 3})
    reward = CompositeReward([WEAK], RefusingScorer(), resumed, folder, PhaseClock(), None)
    kept = [row for row in folder.read_jsonl("metrics.jsonl") if row != lost]
    (folder.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    step(reward, number=2)
    (stubs,) = [a for a in reward.step_values(3)["alarms"] if a.startswith("stub_share")]
    assert "is 0.33" in stubs
