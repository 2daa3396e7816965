"""What the judge's cold start is trained on, and in which order."""

import math

import pytest
from helpers.small_runs import ROWS, small_data

from seccoderx_lite.core.errors import DataError, ModelError
from seccoderx_lite.core.records import LabelledCode
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.stages import judge_training


def recipe_of(verdict="cascade", **cold_start):
    section = {"data": "builtin:tiny", "steps": 6, "batch_size": 4, **cold_start}
    document = {
        "name": "x",
        "model": {"base": "builtin:tiny"},
        "judge": {"verdict": verdict, "cold_start": section},
    }
    return check_recipe(document, "x")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))["labelled"]


@pytest.fixture(scope="module")
def base():
    return load_base(recipe_of().model)


def trained_text(tokenizer, row):
    pairs = zip(row["input_ids"], row["completion_mask"], strict=True)
    return tokenizer.decode([token for token, is_trained in pairs if is_trained])


@pytest.fixture
def steps_of(base, tmp_path, monkeypatch):
    """The answers of each step, in the order in which the trainer is given them."""

    class NotTrained(Exception):
        pass

    def answers(recipe):
        given = []

        def capture(base, recipe, config, rows, recorder):
            given.extend(trained_text(base.tokenizer, row) for row in rows)
            raise NotTrained

        monkeypatch.setattr(judge_training, "make_sft_trainer", capture)
        with RunFolder.open(tmp_path / "run", recipe) as folder, pytest.raises(NotTrained):
            judge_training.cold_start(recipe, folder, base)
        size = recipe.judge.cold_start.batch_size
        return [given[start : start + size] for start in range(0, len(given), size)]

    return answers


def form_of(trained):
    if "<answer>" not in trained:
        return "v"
    return "r" if "<think>" in trained else "d"


@pytest.mark.parametrize(
    ("verdict", "forms"), [("cascade", "vdrvdr"), ("direct", "vdvvvd"), ("reason", "rrrrrr")]
)
@pytest.mark.parametrize("micro", [4, 2])
def test_a_step_trains_one_form_of_answer(steps_of, data, verdict, forms, micro):
    recipe = recipe_of(verdict, data=data, trainer={"per_device_train_batch_size": micro})
    steps = steps_of(recipe)
    assert [len(step) for step in steps] == [4] * 6
    forms_of_steps = [set(map(form_of, step)) for step in steps]
    assert forms_of_steps == [{form} for form in forms]


def test_examples_of_which_none_fits_are_refused_by_their_form(base, data, tmp_path):
    recipe = recipe_of(data=data, max_tokens=8)
    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(DataError, match=rf"none of {ROWS} reason answers fits into 8 tokens"),
    ):
        judge_training.cold_start(recipe, folder, base)


def test_the_accuracy_of_the_verdict_token_is_recorded_apart(data, tmp_path):
    recipe = recipe_of("direct", data=data, steps=2, batch_size=2)
    rows = []
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        judge_training.cold_start(recipe, folder, load_base(recipe.model))
        rows = list(folder.read_jsonl("metrics.jsonl"))
    assert [row["trained_on"] for row in rows] == ["verdict", "direct"]
    assert 0.0 <= rows[0]["verdict_accuracy"] <= 1.0
    assert "verdict_accuracy" not in rows[1] and "token_accuracy" in rows[1]


class NamelessGenerator:
    """A judge with NaN weights on part of the code."""

    def answer_probabilities(self, prompts, prefixes, answers):
        known = {"danger()": 0.9, "fine()": 0.2}
        return [next((p for c, p in known.items() if c in text), math.nan) for text in prompts]

    def generate(self, prompts, *, max_new_tokens, temperature):
        return [None] * len(prompts)


@pytest.mark.parametrize(("codes", "n"), [(("danger()", "odd()", "fine()"), 2), (("odd()",), 0)])
def test_verdicts_that_are_no_numbers_calibrate_nothing(codes, n):
    labelled = [LabelledCode(code, "python", (), is_vulnerable="d" in code) for code in codes]
    judge = Judge(NamelessGenerator(), recipe_of().judge)
    if n == 0:
        with pytest.raises(ModelError, match=r"no probability for any of 1 samples .*is nan"):
            judge_training._calibrate(judge, labelled)
        return
    figures = judge_training._calibrate(judge, labelled)["validation"]
    assert (figures["n"], figures["direct_accuracy"]) == (2, 1.0)
