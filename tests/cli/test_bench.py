"""Bench: three layouts of one recipe, measured for real on the tiny world."""

import pytest

from seccoderx_lite.cli.bench import (
    LAYOUTS,
    PHASES,
    BenchResult,
    LayoutFigures,
    OneByOneScorer,
    bench,
    recipe_of,
    table,
)
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Task, Verdict
from seccoderx_lite.recipe.recipe import RewardRecipe, check_recipe
from seccoderx_lite.sandbox import Sandbox

RECIPE = {
    "name": "bench",
    "model": {"base": "builtin:tiny", "lora": {"rank": 2}},
    "judge": {
        "verdict": "cascade",
        "max_new_tokens": 4,
        "cold_start": {"data": "builtin:tiny", "steps": 1},
    },
    "policy": {
        "tasks": "builtin:tiny",
        "grpo": {
            "group_size": 2,
            "prompts_per_step": 1,
            "steps": 50,
            "max_completion_tokens": 6,
        },
    },
}


def test_the_layouts_differ_in_the_judge_and_two_models_generate_plainly(tmp_path):
    recipe = check_recipe(RECIPE, "test")
    shared, two, none = (recipe_of(layout, recipe, tmp_path, 3) for layout in LAYOUTS)
    assert (shared.judge.verdict, shared.judge.base) == ("cascade", None)
    assert (two.judge.verdict, two.judge.base) == ("reason", "builtin:tiny")
    assert not none.policy.reward.judge
    fast = [layout.model.fast_generation for layout in (shared, two, none)]
    assert fast == [True, False, True]
    assert shared.policy == two.policy
    assert shared.policy.grpo == none.policy.grpo
    assert shared.policy.grpo.steps == 3


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"policy": None}, {}, "no policy"),
        ({}, {"steps": 1}, "at least 2"),
        ({"name": "never-trained"}, {}, "no trained judge"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=message):
        bench(check_recipe(RECIPE | change, "test"), **options)


class CountingJudge:
    asked = 0

    def reasoned(self, items):
        self.asked += len(items)
        return [Verdict("safe")] * len(items)


def test_the_other_layouts_scorer_judges_equal_completions_every_time():
    task = Task("t", "Write f.", "python", ("CWE-95",), reference="def f():\n    return int('1')")
    judge = CountingJudge()
    text = "```python\ndef f():\n    return int('1')\n```"
    with Sandbox("limits-only") as sandbox:
        scored = OneByOneScorer(RewardRecipe(), judge, sandbox).score([task] * 3, [text] * 3)
    assert judge.asked == 3
    assert len({item.reward for item in scored}) == 1


@pytest.mark.slow
def test_every_layout_is_measured_in_all_phases(tmp_path):
    from seccoderx_lite.stages.pipeline import train

    recipe = check_recipe(RECIPE | {"policy": None}, "test")
    folder = train(recipe, tmp_path / "run")
    result = bench(check_recipe(RECIPE, "test"), folder / "judge" / "adapter", steps=2, rounds=1)
    assert set(result.layouts) == set(LAYOUTS)
    for layout in LAYOUTS:
        seconds = result.layouts[layout].seconds
        assert set(seconds) == set(PHASES)
        assert seconds["step"] >= seconds["rollout"] > 0
    assert result.layouts["no judge"].seconds["judge"] < 0.1
    assert len(list(table(result))) == len(PHASES) + 5


def test_the_table_has_the_time_per_rollout_slowest_phase_first():
    seconds = {
        "rollout": 2.0,
        "reference": 0.5,
        "judge": 0.75,
        "tests": 0.0,
        "update": 1.75,
        "step": 5.0,
    }
    layout = LayoutFigures(seconds, tokens_per_s=100.0, peak_memory_bytes=2**30)
    result = BenchResult(dict.fromkeys(LAYOUTS, layout), rollouts=50)
    assert (
        "a step is 50 rollouts of 100.0 ms each: rollout 40.0, update 35.0, judge 15.0, "
        "reference 10.0, tests 0.0" in table(result)
    )
    figures = result.as_json()
    assert figures["judge_share"] == 0.15
    assert figures["layouts"]["no judge"]["tokens_per_s"] == 100.0
