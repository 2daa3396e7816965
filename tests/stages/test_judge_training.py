"""What the judge's cold start is trained on, and in which order."""

import pytest

from seccoderx_lite.core.errors import DataError
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
def base():
    return load_base(recipe_of().model)


def answer_in(tokenizer, row):
    """The text of an example that is trained."""
    masked = zip(row["input_ids"], row["completion_mask"], strict=True)
    return tokenizer.decode([token for token, is_trained in masked if is_trained])


@pytest.fixture
def steps_of(base, tmp_path, monkeypatch):
    """The answers of each step, in the order in which the trainer is given them."""

    class NotTrained(Exception):
        pass

    def answers(recipe):
        given = []

        def capture(base, recipe, config, rows, recorder):
            given.extend(answer_in(base.tokenizer, row) for row in rows)
            raise NotTrained

        monkeypatch.setattr(judge_training, "make_sft_trainer", capture)
        with RunFolder.open(tmp_path / "run", recipe) as folder, pytest.raises(NotTrained):
            judge_training.cold_start(recipe, folder, base)
        size = recipe.judge.cold_start.batch_size
        return [given[start : start + size] for start in range(0, len(given), size)]

    return answers


@pytest.mark.parametrize(
    ("verdict", "forms"), [("cascade", "ddrddr"), ("direct", "dddddd"), ("reason", "rrrrrr")]
)
@pytest.mark.parametrize("micro", [4, 2])
def test_a_step_trains_one_form_of_answer(steps_of, verdict, forms, micro):
    recipe = recipe_of(verdict, trainer={"per_device_train_batch_size": micro})
    steps = steps_of(recipe)
    assert [len(step) for step in steps] == [4] * 6
    forms_of_steps = [{"r" if "<think>" in answer else "d" for answer in step} for step in steps]
    assert forms_of_steps == [{form} for form in forms]


def test_examples_of_which_none_fits_are_refused_by_their_form(base, tmp_path):
    recipe = recipe_of(max_tokens=8)
    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(DataError, match=r"none of 2320 reason answers fits into 8 tokens"),
    ):
        judge_training.cold_start(recipe, folder, base)
