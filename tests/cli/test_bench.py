"""Bench: three layouts of one recipe, measured for real on the tiny world."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from seccoderx_lite.cli.bench import bench, judge_adapter, recipe_of
from seccoderx_lite.cli.bench_figures import (
    LAYOUTS,
    PHASES,
    BenchResult,
    LayoutFigures,
    figures_of,
    table,
)
from seccoderx_lite.cli.bench_process import OneByOneScorer, limit_memory
from seccoderx_lite.cli.bench_random import (
    random_recipe,
    scoring_references,
    with_longest_tasks,
)
from seccoderx_lite.core.errors import RecipeError, RunFolderError
from seccoderx_lite.core.records import Task, Verdict
from seccoderx_lite.data.loading import load_tasks
from seccoderx_lite.models.base import resolve_base
from seccoderx_lite.models.generation import render_chat
from seccoderx_lite.models.shapes import model_shape
from seccoderx_lite.recipe.recipe import RewardRecipe, check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.sandbox import Sandbox

SHAPE = Path(__file__).parents[1] / "models" / "configs" / "Qwen2.5-Coder-7B-Instruct.json"

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


def test_a_layout_measures_steps_alone_not_the_held_out_tasks(tmp_path):
    policy = RECIPE["policy"] | {"held_out": {"every": 1}, "keep": "best"}
    recipe = check_recipe(RECIPE | {"policy": policy}, "test")
    assert recipe.policy.measures
    assert recipe_of("shared", recipe, tmp_path, 3).policy.measures is None


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
        ({}, {"layouts": ["both"]}, "--layout: must be one of shared, two models, no judge"),
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
    assert len(list(table(result))) == len(PHASES) + 6


@pytest.mark.parametrize("place", ["", "judge/adapter"], ids=["run folder", "adapter"])
def test_a_judge_is_a_run_folder_or_an_adapter(tmp_path, place):
    recipe = check_recipe(RECIPE, "test")
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        folder.judge_adapter.mkdir(parents=True)
        (folder.judge_adapter / "adapter_config.json").write_text("{}")
    assert judge_adapter(recipe, tmp_path / "run" / place) == tmp_path / "run/judge/adapter"


def test_a_judge_that_is_neither_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run folder"):
        judge_adapter(check_recipe(RECIPE, "test"), tmp_path)


def test_random_weights_take_policy_and_judge_on_one_base_of_the_shape(tmp_path):
    own_base = {"base": "some/judge", "verdict": "cascade"}
    recipe = check_recipe(RECIPE | {"judge": own_base}, "test")
    random = random_recipe(recipe, str(SHAPE), tmp_path)
    assert random.model.base == f"random:{tmp_path}"
    assert model_shape(random.model.base) == model_shape(str(SHAPE))
    assert random.judge.base is None
    assert random.judge.unsure[1] < 0.01  # a cascade does not reason


def test_tasks_of_random_weights_have_the_greatest_lengths_and_working_references(tmp_path):
    recipe = check_recipe(RECIPE, "test")
    grpo = recipe.policy.grpo.model_copy(update={"max_completion_tokens": 300})
    policy = recipe.policy.model_copy(update={"grpo": grpo})
    recipe = recipe.model_copy(update={"policy": policy})
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("builtin:tiny"))
    longest = with_longest_tasks(recipe, tokenizer, 700, tmp_path / "tasks.jsonl")
    assert longest.model.max_prompt_tokens == 400
    tasks = load_tasks(longest.policy.tasks)
    with Sandbox("limits-only") as sandbox:
        for task in tasks[:3]:
            assert 380 < len(tokenizer(render_chat(tokenizer, task.prompt))["input_ids"]) <= 400
            assert 280 < len(tokenizer(task.reference)["input_ids"]) <= 300
            assert sandbox.run_tests(task.reference, "python", task.tests).is_functional


def test_completions_of_random_weights_are_judged_and_tested_as_different_solutions(tmp_path):
    task = Task("t", "Write f.", "python", ("CWE-95",), reference="def f():\n    return int('1')")
    judge = CountingJudge()
    with Sandbox("limits-only") as sandbox:
        scorer = scoring_references(OneByOneScorer)(RewardRecipe(), judge, sandbox)
        scored = scorer.score([task] * 3, ["noise"] * 3)
    assert judge.asked == 3
    assert len({item.answer.completion for item in scored}) == 3
    assert all(item.answer.is_real_code for item in scored)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_memory_is_limited_on_a_gpu_only():
    with pytest.raises(RecipeError, match="--memory: limits GPU memory"):
        limit_memory(2**30)


def test_figures_of_a_layout_that_did_not_fit_are_missing_and_the_reason_is_shown():
    layout = LayoutFigures(dict.fromkeys(PHASES, 1.0), 100.0, 200.0, 2**30, 2**31)
    result = BenchResult({"shared": layout}, 2, failed={"two models": "out of memory: 3 GiB"})
    lines = list(table(result))
    assert "two models: no figures: out of memory: 3 GiB" in lines
    assert any(line.split() == ["estimated", "GiB", "2.00"] for line in lines)
    assert lines[-1] == "judge 100% of a step"
    assert result.as_json()["speed_against_two_models"] is None
    assert result.as_json()["seconds_per_rollout"] == {"shared": 0.5}


def test_tokens_sampled_per_second_leave_out_the_rest_of_the_step():
    seconds = {"rollout": 2.0, "step": 10.0}
    rows = [{"seconds": seconds, "tokens_per_s": 20.0, "peak_memory_bytes": 5}]
    figures = figures_of(rows, None)
    assert (figures.rollout_tokens_per_s, figures.tokens_per_s) == (20.0, 4.0)


@pytest.mark.slow
def test_random_weights_are_measured_without_a_trained_judge(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    so_far = []
    result = bench(
        check_recipe(RECIPE, "test"),
        random_shape="builtin:tiny",
        steps=2,
        rounds=1,
        layouts=["shared", "two models"],
        on_figures=lambda result: so_far.append(len(result.layouts)),
    )
    assert so_far == [1, 2]
    assert result.layouts["shared"].seconds["judge"] > 0
    assert result.layouts["two models"].seconds["judge"] > 0
    shown = capfd.readouterr().err
    assert "s: loading the base" in shown
    assert shown.count("s: step 2/2") == 2


def test_the_table_has_the_time_per_rollout_slowest_phase_first():
    seconds = {
        "rollout": 2.0,
        "reference": 0.5,
        "judge": 0.75,
        "tests": 0.0,
        "update": 1.75,
        "step": 5.0,
    }
    layout = LayoutFigures(
        seconds, tokens_per_s=100.0, rollout_tokens_per_s=250.0, peak_memory_bytes=2**30
    )
    result = BenchResult(dict.fromkeys(LAYOUTS, layout), rollouts=50)
    assert (
        "a step is 50 rollouts of 100.0 ms each: rollout 40.0, update 35.0, judge 15.0, "
        "reference 10.0, tests 0.0" in table(result)
    )
    figures = result.as_json()
    assert figures["judge_share"] == 0.15
    assert figures["layouts"]["no judge"]["tokens_per_s"] == 100.0
