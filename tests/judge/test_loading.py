"""Names on the command line as judges."""

import json
import re

import pytest

from seccoderx_lite.core.errors import JudgeError, ModelError, RecipeError, RunFolderError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.records import Verdict
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge, in_batches, load_judge, trained_with
from seccoderx_lite.recipe.recipe import JudgeRecipe


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("http://x/v1", {}, "add the name of the model on this server: http://x/v1#MODEL"),
        ("bandit", {"adapter": "a"}, "--adapter: does not apply to bandit; remove it"),
        ("http://x/v1#m", {"settings": {"batch_size": 0}}, "batch_size"),
    ],
)
def test_a_name_that_cannot_be_a_judge_is_refused(name, options, message):
    with pytest.raises(RecipeError) as caught:
        load_judge(name, **options)
    assert message in str(caught.value)


def test_a_server_is_named_with_its_model():
    judge = load_judge("http://127.0.0.1:9/v1#judge-8b", settings={"verdict": None})
    assert judge.identity["model"] == "judge-8b"
    with pytest.raises(JudgeError, match=r"http://127\.0\.0\.1:9/v1.* cannot be reached"):
        judge.verdicts([CodeToJudge("x", "c", ("CWE-22",))])


def test_settings_of_a_server_are_added_to_its_name():
    settings = {"endpoint": {"request": {"max_completion_tokens": 9}, "attempts": 1}}
    judge = load_judge("http://127.0.0.1:9/v1#judge-8b", settings=settings)
    assert judge.recipe.endpoint.model == "judge-8b" and judge.recipe.endpoint.attempts == 1
    assert judge.identity["request"] == {"max_completion_tokens": 9}


def test_a_run_without_a_judge_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        "name: x\nmodel: {base: 'builtin:tiny'}\nevaluate: {suites: ['builtin:tiny']}\n"
    )
    with pytest.raises(ModelError, match="there is no trained judge in this run folder"):
        load_judge(str(tmp_path))


def test_a_damaged_run_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: [")
    with pytest.raises(RunFolderError, match="damaged"):
        load_judge(str(tmp_path))


def test_saved_settings_of_an_adapter_are_those_that_say_how_it_answers(tmp_path):
    assert trained_with(tmp_path) == {}
    data = {"verdict": "reason", "max_new_tokens": 40, "accuracy": 0.9, "cold_start": {}}
    (tmp_path / "judge.json").write_text(json.dumps(data))
    assert trained_with(tmp_path) == {"verdict": "reason", "max_new_tokens": 40}


def test_an_analyser_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JudgeError, match=re.escape(install_command("analysers"))):
        load_judge("bandit")


class Scripted:
    def __init__(self, *answers):
        self.answers = list(answers)

    def generate(self, prompts, *, max_new_tokens, temperature):
        assert temperature > 0
        return [self.answers.pop(0) for _ in prompts]


def test_sampled_verdicts_are_read_from_reasoned_answers():
    from seccoderx_lite.judge.judge import Judge

    recipe = JudgeRecipe(base="unused")
    judge = Judge(Scripted("<answer>Vulnerable</answer>", None, "what?"), recipe)
    loaded = LoadedJudge(
        "x", {}, judge, recipe, 4, lambda item: "too long" if item.code == "long" else None
    )
    items = [CodeToJudge(code, "python", ("CWE-22",)) for code in ("a", "long", "b", "c")]
    labels = [verdict.label for verdict in loaded.sampled_verdicts(items, seed=0)]
    assert labels == ["vulnerable", "unclear", None, "unclear"]


def test_what_a_judge_cannot_read_is_unclear_and_the_rest_keeps_its_order():
    class Echo:
        def verdicts(self, items):
            return [Verdict("safe", item.code) for item in items]

    loaded = LoadedJudge("x", {}, Echo(), None, 4, lambda i: "long" if i.code == "l" else None)
    items = [CodeToJudge(code, "c", ()) for code in ("a", "l", "b", "a")]
    assert [v.reasoning or v.error for v in loaded.verdicts(items)] == ["a", "long", "b", "a"]


def test_batches_hold_every_item_once_and_are_smaller_for_long_code():
    items = [CodeToJudge("x" * length, "c", ()) for length in (10, 20_000, 30, 3_000, 20)]
    batches = list(in_batches(items, 64))
    assert sorted(place for batch in batches for place in batch) == [0, 1, 2, 3, 4]
    assert batches[0] == [1]
