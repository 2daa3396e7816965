"""A number that is not finite decides nothing: verdicts, rewards, metrics."""

import math

import pytest
import yaml

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.numbers import finite
from seccoderx_lite.core.records import LabelledCode, Task, TestResult, Verdict
from seccoderx_lite.evaluation.calibration import score_probabilities
from seccoderx_lite.judge.cache import VerdictCache
from seccoderx_lite.judge.judge import CodeToJudge, Judge, judge_accuracy
from seccoderx_lite.models.chat_client import ChatReply
from seccoderx_lite.models.endpoint_generator import _first_answer_probability
from seccoderx_lite.recipe.recipe import JudgeRecipe, check_recipe
from seccoderx_lite.rewards.answers import ScoredCompletion, parse_answer
from seccoderx_lite.training.canaries import describe_accuracy

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
    nothing = {"accuracy": None, "unclear_share": None, "n": 0.0, "unscored": 1.0}
    assert judge_accuracy(judge, [row]) == nothing
    assert describe_accuracy(nothing) == "without a verdict on any of 1 samples"


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


@pytest.mark.parametrize(
    ("functional", "security", "share"),
    [((1, 2), (0, 0), 0.5), ((0, 0), (0, 0), 0.0), ((0, 0), (0, 3), None), ((0, 2), (3, 3), 0.0)],
)
def test_a_task_with_security_tests_alone_says_nothing_about_function(functional, security, share):
    assert TestResult("failed", *functional, *security).measured_function == share


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_such_a_probability_has_no_place_in_a_calibration(value):
    code = [LabelledCode("", "c", (), truth) for truth in (True, False, True)]
    scores = score_probabilities(code, [0.9, 0.1, value])
    assert (scores.roc_auc, scores.n, scores.without) == (1.0, 2, 1)
    assert score_probabilities(code, [value] * 3) is None


@pytest.mark.parametrize("value", [".nan", ".inf", "{a: [1, -.inf]}"])
@pytest.mark.parametrize(
    "key", ["model.chat_template_kwargs", "evaluate.endpoint.request", "policy.grpo.trainer"]
)
def test_no_settings_that_are_passed_on_have_such_a_number(key, value):
    place, rest = key.split(".")[0], key.split(".")[1:]
    document = {"name": "x", "model": {"base": "builtin:tiny"}, "evaluate": {"suites": ["x"]}}
    document["evaluate"]["endpoint"] = {"url": "http://localhost:1/v1", "model": "m"}
    document["policy"] = {"tasks": "builtin:tiny", "grpo": {}}
    section = document[place]
    for name in rest[:-1]:
        section = section[name]
    section[rest[-1]] = {"x": yaml.safe_load(value)}
    with pytest.raises(RecipeError, match=rf"{key}: must have finite numbers only"):
        check_recipe(document, "x")


@pytest.mark.parametrize(
    ("logprob", "p"),
    [(0.0, 0.5), (1e-7, 0.5), (-math.inf, 0.0), *((v, None) for v in (1e3, math.inf, math.nan))],
)
def test_what_is_no_probability_of_a_server_is_unscored(logprob, p):
    tokens = [
        {"token": "No", "logprob": 0.0, "top_logprobs": [{"token": "Yes", "logprob": logprob}]}
    ]
    found = _first_answer_probability(
        ChatReply("", "", None, None, {"content": tokens}, {}), ("Yes", "No")
    )
    assert finite(found) == (None if p is None else pytest.approx(p))
