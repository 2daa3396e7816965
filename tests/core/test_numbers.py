"""A number that is not finite decides nothing: verdicts, rewards, metrics."""

import math

import pytest

from seccoderx_lite.core.records import LabelledCode, Task, Verdict
from seccoderx_lite.judge.cache import VerdictCache
from seccoderx_lite.judge.judge import CodeToJudge, Judge, judge_accuracy
from seccoderx_lite.recipe.recipe import JudgeRecipe
from seccoderx_lite.rewards.answers import ScoredCompletion, parse_answer

NOT_NUMBERS = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("label", ["safe", "vulnerable", "unclear"])
def test_a_verdict_with_such_a_probability_is_unscored(label, value):
    verdict = Verdict(label, p_vulnerable=value)
    assert (verdict.label, verdict.p_vulnerable) == (None, None)
    assert str(value) in verdict.error


class NanJudge:
    def answer_probabilities(self, prompts, prefixes, answers):
        return [math.nan] * len(prompts)

    def generate(self, prompts, *, max_new_tokens, temperature):
        return ["<think>x</think><answer>Not Vulnerable</answer>"] * len(prompts)

    def identity(self):
        return "nan"


@pytest.mark.parametrize("mode", ["direct", "cascade"])
def test_a_judge_with_nan_weights_calls_nothing_safe(mode, tmp_path):
    recipe = JudgeRecipe(base="b", verdict=mode, cache=str(tmp_path / "cache"))
    judge = Judge(NanJudge(), recipe)
    (verdict,) = judge.verdicts([CodeToJudge("eval(x)", "python", ())])
    assert verdict.label is None
    row = LabelledCode("eval(x)", "python", (), is_vulnerable=False)
    assert judge_accuracy(judge, [row])["unscored"] == 1


def test_a_nan_in_the_cache_of_an_earlier_run_is_no_verdict(tmp_path):
    cache = VerdictCache(tmp_path / "cache", "x")
    cache.put({"prompt": Verdict("safe", p_vulnerable=0.1)})
    with cache._database as database:
        database.execute("UPDATE verdicts SET verdict = replace(verdict, '0.1', 'NaN')")
    assert cache.get("prompt").label is None


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_completion_with_such_a_reward_is_unscored(value):
    answer = parse_answer("x", Task("1", "Add.", "python"))
    scored = ScoredCompletion(answer, value, {"similarity": value, "format": 1.0})
    assert scored.reward is None
    assert scored.parts == {"similarity": None, "format": 1.0}
