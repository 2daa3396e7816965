import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.reading import parse_yaml, section_of, value_at
from seccoderx_lite.recipe.recipe import (
    JudgeRecipe,
    Recipe,
    check_recipe,
    differing_keys,
    dump_recipe,
    load_recipe,
    recipe_fingerprint,
)
from seccoderx_lite.recipe.section import Mark, marked_keys
from seccoderx_lite.recipe.synth import SynthRecipe

SMALL = """
name: small
model: {base: "builtin:tiny"}
judge: {cold_start: {data: "builtin:tiny/labelled"}}
policy: {tasks: "builtin:tiny/tasks"}
evaluate: {suites: ["builtin:tiny"]}
"""


@pytest.fixture
def write(tmp_path):
    def write_recipe(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


def faults(path, overrides=()) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    first, *rest = str(caught.value).splitlines()
    assert first == f"{path} is not a valid recipe:"
    return [line.strip() for line in rest]


def every_section(model: type[BaseModel]):
    yield model
    for field in model.model_fields.values():
        if section := section_of(field.annotation):
            yield from every_section(section)


def test_small_recipe_gets_the_documented_defaults(write):
    recipe = load_recipe(write(SMALL))
    assert recipe.seed == 0
    assert recipe.model.quantization == "nf4"
    assert recipe.model.lora.target_modules == "all-linear"
    assert recipe.judge.canaries.min_accuracy == 0.7
    assert recipe.judge.cold_start.trainer == {}
    assert recipe.policy.reward.formula == "guarded"
    assert recipe.policy.reward.security_tests is False
    assert recipe.policy.grpo.group_size == 8
    assert recipe.policy.alarms.action == "warn"
    assert recipe.evaluate.temperature is None
    assert recipe.export is None
    assert recipe.sandbox.isolation == "confined"


def test_every_field_has_one_sentence_of_documentation():
    for section in every_section(Recipe):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            assert field.description.endswith("."), f"{section.__name__}.{name}"


def test_a_recipe_cannot_be_changed_after_loading(write):
    recipe = load_recipe(write(SMALL))
    with pytest.raises(ValidationError):
        recipe.policy.grpo.kl = 1.0


def test_all_faults_are_reported_together_with_key_rule_and_value(write):
    path = write("""
seed: 1.5
model: {base: "builtin:tiny", quantization: int8, lora: {rank: 0, target_modules: [1]}}
judge: {endpoint: {url: "ftp://x"}}
policy: {tasks: "", grpo: {kl: -1, temperature: 0}, alarms: {length_ratio: [2, 1]}}
report_to: [mlflow]
""")
    assert faults(path) == [
        "name: is required",
        "seed: must be a whole number (got 1.5)",
        "model.quantization: must be one of 'nf4' or 'none' (got 'int8')",
        "model.lora.rank: must be at least 1 (got 0)",
        "model.lora.target_modules: must be text (got 1)",
        "judge.endpoint.url: must start with http:// or https:// (got 'ftp://x')",
        "judge.endpoint.model: is required",
        "policy.tasks: must not be empty (got '')",
        "policy.grpo.kl: must be at least 0.0 (got -1)",
        "policy.grpo.temperature: must be greater than 0.0 (got 0)",
        "policy.alarms.length_ratio: must be [low, high] with low below high (got [2, 1])",
        "report_to: must be one of 'tensorboard', 'wandb' or 'trackio' (got 'mlflow')",
    ]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("sed=1", "sed: unknown key; did you mean seed?"),
        (
            "policy.grpo.groupsize=4",
            "policy.grpo.groupsize: unknown key; did you mean policy.grpo.group_size?",
        ),
        (
            "policy.group_size=4",
            "policy.group_size: unknown key; did you mean policy.grpo.group_size?",
        ),
        (
            "model.zzz=1",
            "model.zzz: unknown key; use one of "
            "base, quantization, backend, fast_generation, decoding, lora, chat_template_kwargs, "
            "max_prompt_tokens",
        ),
    ],
)
def test_an_unknown_key_suggests_the_nearest_valid_one(write, override, fault):
    assert faults(write(SMALL), [override]) == [fault]


def test_a_secret_under_an_unknown_key_is_not_printed(write):
    endpoint = '{url: "http://x/v1", model: m, api_key: sk-123}'
    (fault,) = faults(write(SMALL), ["judge.cold_start=null", f"judge.endpoint={endpoint}"])
    assert "api_key_env" in fault
    assert "sk-123" not in fault


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("policy.grpo.group_size=1", "policy.grpo.group_size: must be at least 2 (got 1)"),
        ("policy.grpo.steps=true", "policy.grpo.steps: must be a whole number (got True)"),
        ("policy.grpo.kl=.nan", "policy.grpo.kl: must be a finite number (got nan)"),
        ("policy.grpo.kl='0.1'", "policy.grpo.kl: must be a number (got '0.1')"),
        ("policy.grpo=3", "policy.grpo: must be a section of `key: value` lines (got 3)"),
        ("policy.grpo.trainer=[a]", "policy.grpo.trainer: must be a section of `key: value` lines"),
        ("evaluate.suites=[]", "evaluate.suites: must not be empty (got [])"),
        ("evaluate.suites=tiny", "evaluate.suites: must be a list (got 'tiny')"),
        ("name=a/b", "name: must be usable as a folder name"),
        ("name=..", "name: must be usable as a folder name"),
        ("judge.verdict=guess", "judge.verdict: must be one of 'reason', 'direct' or 'cascade'"),
        ("model.lora.target_modules=some", "model.lora.target_modules: must be one of"),
        ("policy.alarms.length_ratio=[1]", "policy.alarms.length_ratio: must have at least 2"),
    ],
)
def test_a_broken_rule_names_key_rule_and_value(write, override, fault):
    (found,) = faults(write(SMALL), [override])
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["judge.adapter=a"], "judge.cold_start: conflicts with judge.adapter"),
        (
            ['judge={endpoint: {url: "http://x", model: m}, align: {data: d}}'],
            "judge.align: conflicts with judge.endpoint",
        ),
        (["judge.base=b"], "judge.cold_start: conflicts with judge.base"),
        (
            ['judge={endpoint: {url: "http://x", model: m}, base: b}'],
            "judge.base: conflicts with judge.endpoint",
        ),
        (["judge={}"], "judge: no judge given: set one of"),
        (["judge=null"], "judge: is required by policy.reward"),
        (["policy.reward={formula: seccoderx, judge: false}"], "policy.reward.judge: must be true"),
        (
            ["policy.reward={formula: seccoderx, security_tests: true}"],
            "policy.reward.security_tests: must be false",
        ),
        (
            ["policy.grpo.trainer={num_generations: 4}"],
            "policy.grpo.trainer.num_generations: is already set by group_size",
        ),
        (
            ["judge.cold_start.trainer={max_length: 4}"],
            "judge.cold_start.trainer.max_length: is already set by max_tokens",
        ),
        (
            ["judge=null", "policy=null", "evaluate=null"],
            "has nothing to do; add a section judge, policy, evaluate or export",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_a_fault(write, overrides, fault):
    (found,) = faults(write(SMALL), overrides)
    assert found.startswith(fault)


def test_contradictions_are_reported_together_with_faults_of_other_fields(write):
    found = faults(write(SMALL), ["judge=null", "policy.grpo.kl=-1", "name=null"])
    assert len(found) == 3
    assert any(line.startswith("judge: is required by policy.reward") for line in found)


def test_contradictions_hold_for_recipes_made_in_python_too():
    with pytest.raises(ValidationError, match="conflicts with"):
        JudgeRecipe(adapter="a", align={"data": "d"})


def test_a_policy_without_judge_is_valid_when_verdicts_are_not_rewarded(write):
    recipe = load_recipe(write(SMALL), ["judge=null", "policy.reward.judge=false"])
    assert recipe.judge is None


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "0.00001", "1E-5", "+1e-05"])
def test_every_spelling_of_a_small_number_is_a_number(write, text):
    recipe = load_recipe(write(SMALL), [f"policy.grpo.learning_rate={text}"])
    assert recipe.policy.grpo.learning_rate == 1e-5


def test_numbers_passed_to_the_trainer_unread_are_numbers_too(write):
    recipe = load_recipe(write(SMALL), ["policy.grpo.trainer={adam_epsilon: 1e-6}"])
    assert recipe.policy.grpo.trainer["adam_epsilon"] == 1e-6


def test_overrides_are_applied_in_order_and_create_absent_sections(write):
    recipe = load_recipe(
        write(SMALL),
        ["export.formats=[merged]", "seed=1", "seed=2", "policy.grpo.trainer.top_k=5"],
    )
    assert recipe.export.formats == ["merged"]
    assert recipe.seed == 2
    assert recipe.policy.grpo.trainer == {"top_k": 5}


def test_an_override_changes_only_one_of_two_sections_that_share_a_yaml_anchor(write):
    path = write(
        "name: n\nmodel: {base: b}\njudge:\n"
        "  cold_start: &same {data: d, steps: 5}\n  align: *same\n"
    )
    recipe = load_recipe(path, ["judge.align.steps=7"])
    assert (recipe.judge.cold_start.steps, recipe.judge.align.steps) == (5, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override 'seed': must have the form key.sub=value"),
        ("a..b=1", "override 'a..b=1': must have the form key.sub=value"),
        ("seed=[1", "override 'seed=[1', line 1, column 3"),
        ("name.x=1", "override name.x: name is a value, not a section"),
    ],
)
def test_a_malformed_override_is_named(write, override, message):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(SMALL), [override])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "must contain `key: value` lines, but it contains a list"),
        ("name: a\nseed: 1\nname: b\n", "line 3, column 1: the key 'name' appears twice"),
        ("model:\n  base: a\n  base: b\n", "line 3, column 3: the key 'base' appears twice"),
        ("name: [a\n", "line 2, column 1"),
        ("name: a\n\tseed: 1\n", "line 2, column 1"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("name: a\x00b\n", "is not readable as YAML"),
        ("[a]: 1\n", "unhashable key"),
    ],
)
def test_a_file_that_is_no_recipe_gets_one_clear_message(write, text, message):
    path = write(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_file_a_folder_and_a_binary_file_are_told_apart(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RecipeError, match="not a text file"):
        load_recipe(tmp_path / "b.yaml")


def test_relative_paths_are_looked_for_in_the_folder_of_the_recipe(write, tmp_path):
    (tmp_path / "tasks.jsonl").touch()
    (tmp_path / "suite.jsonl").touch()
    recipe = load_recipe(
        write(
            SMALL.replace("builtin:tiny/tasks", "tasks.jsonl").replace(
                '["builtin:tiny"]', '["builtin:tiny", suite.jsonl, org/hub-suite]'
            )
        )
    )
    assert recipe.policy.tasks == str(tmp_path / "tasks.jsonl")
    assert recipe.model.base == "builtin:tiny"
    assert recipe.evaluate.suites == [
        "builtin:tiny",
        str(tmp_path / "suite.jsonl"),
        "org/hub-suite",
    ]


def test_a_path_in_an_override_is_looked_for_in_the_working_folder(write, tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path / "here"):
        folder.mkdir(exist_ok=True)
        (folder / "tasks.jsonl").touch()
    path = write(SMALL)
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe(path, ["policy.tasks=tasks.jsonl"])
    assert recipe.policy.tasks == str(tmp_path / "here" / "tasks.jsonl")


@pytest.mark.parametrize("value", ["~nobody-here/model", "x" * 5000, "builtin:tiny"])
def test_a_base_that_is_no_path_is_kept_as_written(write, value):
    assert load_recipe(write(SMALL), [f"model.base={value}"]).model.base == value


ENDPOINT = {"api_key_env", "timeout_s", "concurrency", "attempts", "backoff_s"}


def test_the_fields_that_may_be_paths_are_marked():
    assert set(marked_keys(Recipe, Mark.PATH)) == {
        "model.base",
        "judge.adapter",
        "judge.base",
        "judge.cold_start.data",
        "judge.align.data",
        "judge.canaries.data",
        "policy.tasks",
        "policy.adapter",
        "policy.warm_start.data",
        "policy.held_out.tasks",
        "evaluate.suites",
        "evaluate.adapter",
        "evaluate.functionality_judge.base",
    }
    assert set(marked_keys(SynthRecipe, Mark.PATH)) == {
        "seeds.data",
        "generator.model",
        "model.base",
        "filter.counts",
    }


def test_the_fields_without_effect_on_the_result_are_marked():
    endpoints = ("judge.endpoint", "evaluate.endpoint", "evaluate.functionality_judge.endpoint")
    assert set(marked_keys(Recipe, Mark.NO_EFFECT)) == {
        "name",
        "report_to",
        "model.fast_generation",
        "model.decoding",
        "sandbox.workers",
        "judge.cold_start.save_every",
        "judge.align.save_every",
        "policy.warm_start.save_every",
        "policy.grpo.save_every",
        *(f"{section}.{field}" for section in endpoints for field in ENDPOINT),
    }
    assert set(marked_keys(SynthRecipe, Mark.NO_EFFECT)) == {
        "name",
        "model.fast_generation",
        "model.decoding",
        "sandbox.workers",
        "generator.max_cost",
        *(f"generator.{field}" for field in ENDPOINT),
    }


def test_a_dumped_recipe_loads_to_the_same_recipe(write):
    recipe = load_recipe(write(SMALL), ["policy.grpo.learning_rate=1e-7", "export={}", "seed=3"])
    text = dump_recipe(recipe)
    assert load_recipe(write(text)) == recipe
    assert value_at(yaml.safe_load(text), "policy.grpo.learning_rate") == 1e-7
    assert value_at(yaml.safe_load(text), "sandbox.memory_mb") == 512


@given(
    rate=st.floats(1e-12, 10),
    seed=st.integers(0, 2**40),
    trainer=st.dictionaries(
        st.text(min_size=1),
        st.none() | st.booleans() | st.integers() | st.text() | st.from_regex(r"[-+.0-9eE_:]+"),
    ),
)
def test_dumping_and_reading_keeps_every_value(rate, seed, trainer):
    data = yaml.safe_load(SMALL)
    data["seed"] = seed
    data["policy"]["grpo"] = {"learning_rate": rate, "trainer": trainer}
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError:
        return  # a drawn trainer key that a field decides
    assert check_recipe(parse_yaml(dump_recipe(recipe), "recipe"), "recipe") == recipe


def test_text_that_looks_like_a_number_stays_text_in_a_dump(write):
    recipe = load_recipe(write(SMALL), ["name='1e5'"])
    assert load_recipe(write(dump_recipe(recipe))).name == "1e5"


def test_fingerprint_ignores_what_does_not_decide_the_result(write):
    recipe = load_recipe(write(SMALL))
    same = load_recipe(write(SMALL), ["name=other", "report_to=[wandb]", "sandbox.workers=3"])
    assert recipe_fingerprint(same) == recipe_fingerprint(recipe)
    assert differing_keys(recipe, same) == []


def test_how_patiently_a_server_is_asked_does_not_make_another_recipe(write):
    endpoint = 'judge={endpoint: {url: "http://x", model: m}}'
    recipe = load_recipe(write(SMALL), [endpoint])
    patience = [f"judge.endpoint.{name}=7" for name in ("attempts", "backoff_s", "timeout_s")]
    assert differing_keys(recipe, load_recipe(write(SMALL), [endpoint, *patience])) == []


def test_fingerprint_tells_recipes_with_other_results_apart(write):
    recipe = load_recipe(write(SMALL))
    other = load_recipe(
        write(SMALL), ["policy.grpo.kl=0.02", "seed=1", "policy.grpo.trainer={top_k: 3}"]
    )
    assert recipe_fingerprint(other) != recipe_fingerprint(recipe)
    assert set(differing_keys(recipe, other)) == {
        "seed",
        "policy.grpo.kl",
        "policy.grpo.trainer",
        "policy.grpo.trainer.top_k",
    }


def test_fingerprint_is_the_same_in_another_process(write):
    path = write(SMALL)
    code = (
        "import sys; from seccoderx_lite.recipe.recipe import *;"
        "print(recipe_fingerprint(load_recipe(sys.argv[1])))"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert run.stdout.strip() == recipe_fingerprint(load_recipe(path)), run.stderr
