"""The policy's warm start: what it trains on, what GRPO then starts from, and what is measured."""

import json
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from seccoderx_lite.core.errors import DataError, ModelError, RecipeError
from seccoderx_lite.models.adapters import adapter_parameters, attach_adapter
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.generation import render_chat
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.stages import policy_training, warm_start
from seccoderx_lite.stages.pipeline import train
from seccoderx_lite.stages.stage_table import planned_stages
from seccoderx_lite.training import trainers
from seccoderx_lite.training.examples import deciding_example, example


def recipe_of(**policy):
    section = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "save_every": 2}
    grpo = {"group_size": 2, "prompts_per_step": 1, "steps": 1, "learning_rate": 1e-3, "kl": 0.05}
    document = {
        "name": "x",
        "model": {"base": "builtin:tiny", "lora": {"rank": 4}},
        "policy": {
            "tasks": "builtin:tiny",
            "reward": {"judge": False},
            "warm_start": section,
            "grpo": {**grpo, "max_completion_tokens": 24},
            **policy,
        },
        "evaluate": {"suites": ["builtin:tiny"], "samples": 1, "limit": 2, "greedy": False},
    }
    return check_recipe(document, "x")


def task_file(path, *rows):
    common = {"language": "python", "prompt": "Write it.", "cwe": ["CWE-22"], "split": "train"}
    lines = [json.dumps({"id": str(n), **common, **row}) for n, row in enumerate(rows)]
    path.write_text("\n".join(lines))
    return str(path)


BOTH = {"reference": "safe()", "insecure": "open(x)"}
BENIGN = {"reference": "add()", "cwe": []}


@pytest.mark.parametrize(
    ("solutions", "expected"),
    [
        ("both", ["safe()", "open(x)", "add()", "add()"]),
        ("secure", ["safe()", "add()", "alone()"]),
    ],
)
def test_a_pass_has_both_solutions_of_a_task_or_the_secure_one_alone(tmp_path, solutions, expected):
    data = task_file(tmp_path / "t.jsonl", BOTH, BENIGN, {"reference": "alone()"}, {})
    recipe = recipe_of(tasks=data, warm_start={"solutions": solutions})
    section = recipe.policy.warm_start
    tasks = warm_start.solved_tasks(recipe.policy, section)
    assert [code for task in tasks for code in warm_start.solutions(task, section)] == expected


@pytest.mark.parametrize(
    ("row", "solutions", "message"),
    [
        ({"reference": "x"}, "both", r"`reference` and `insecure`; add it, or set .*: secure"),
        ({"reference": "x", "cwe": []}, "both", r"has code in `reference` and `insecure`"),
        (
            {"insecure": "x"},
            "secure",
            r"none of the 1 training tasks of .* has code in `reference`",
        ),
        ({**BOTH, "split": "held_out"}, "both", r"policy\.warm_start\.data: .*split train has no"),
    ],
)
def test_tasks_without_the_solutions_are_refused_before_training(tmp_path, row, solutions, message):
    data = task_file(tmp_path / "t.jsonl", row)
    recipe = recipe_of(warm_start={"data": [data], "solutions": solutions})
    with pytest.raises(DataError, match=message):
        train(recipe, tmp_path / "run")


def test_several_sources_are_trained_on_together(tmp_path):
    sources = [task_file(tmp_path / f"{n}.jsonl", {**BOTH, "id": f"t{n}"}) for n in (1, 2)]
    recipe = recipe_of(warm_start={"data": sources})
    assert len(warm_start.solved_tasks(recipe.policy, recipe.policy.warm_start)) == 2


def test_builtin_tasks_with_a_weakness_have_an_insecure_twin():
    recipe = recipe_of()
    tasks = warm_start.solved_tasks(recipe.policy, recipe.policy.warm_start)
    assert {bool(task.cwe) for task in tasks if task.extra["insecure"] is None} == {False}
    assert all(task.extra["insecure"] != task.reference for task in tasks)


def test_examples_train_the_completion_after_the_very_tokens_that_are_asked():
    tokenizer = load_base(recipe_of().model).tokenizer
    asked = tokenizer(render_chat(tokenizer, "Add."), add_special_tokens=False)["input_ids"]
    row = example(tokenizer, "Add.", "```python\nx\n```")
    trained = [i for i, on in zip(row["input_ids"], row["completion_mask"], strict=True) if on]
    assert row["input_ids"] == asked + trained
    assert tokenizer.decode(trained) == "```python\nx\n```<|im_end|>"


def test_a_deciding_example_trains_the_first_token_that_tells_two_answers_apart():
    tokenizer = load_base(recipe_of().model).tokenizer
    answers = "<answer>Vulnerable</answer>", "<answer>Not Vulnerable</answer>"
    for own, other, word in ((*answers, "V"), (*answers[::-1], "Not")):
        row = deciding_example(tokenizer, "Judge.", own, other)
        assert sum(row["completion_mask"]) == row["completion_mask"][-1] == 1
        assert tokenizer.decode(row["input_ids"][-1:]).startswith(word)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": "x"}, r"policy\.warm_start: conflicts with policy\.adapter"),
        ({"warm_start": {"trainer": {"max_length": 9}}}, "is already set by max_tokens"),
        ({"warm_start": {"solutions": "insecure"}}, "both.*secure"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(**changes)


def test_unsloth_has_no_kl_term_against_a_warm_start():
    document = recipe_of().model_dump(mode="json")
    document["model"]["backend"] = "unsloth"
    with pytest.raises(RecipeError, match=r"policy\.grpo\.kl: must be 0 with model\.backend unsl"):
        check_recipe(document, "x")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run, interrupted once in its warm start."""
    folder = tmp_path_factory.mktemp("runs") / "run"

    def stop(stage, step, total, values):
        if (stage, step) == ("warm_start", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe_of(), folder, progress=stop)
    train(recipe_of(), folder)
    return folder


def test_a_warm_start_is_a_stage_before_the_policy(finished):
    assert planned_stages(recipe_of())[:2] == ["warm_start", "policy"]
    steps = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in steps] == [
        *(("warm_start", step) for step in (1, 2, 3, 4)),
        ("policy", 1),
    ]
    assert "Warm start: loss" in (finished / "report.html").read_text()


def test_a_resumed_warm_start_ends_with_the_weights_of_an_unbroken_one(finished, tmp_path):
    train(recipe_of(), tmp_path / "whole", stages=["warm_start"])
    whole, resumed = (
        load_file(path / "warm_start" / "adapter" / "adapter_model.safetensors")
        for path in (tmp_path / "whole", finished)
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(tensor.abs().sum() > 0 for name, tensor in whole.items() if "lora_B" in name)


def test_a_named_stage_resumes_when_interrupted_and_runs_again_when_finished(tmp_path):
    def steps_of_a_run(interrupted_at=None):
        seen = []

        def look(stage, step, total, values):
            if step and "done" not in values:
                seen.append(step)
            if step == interrupted_at:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            train(recipe_of(), tmp_path / "run", stages=["warm_start"], progress=look)
        return seen

    assert steps_of_a_run(interrupted_at=3) == [1, 2, 3]
    assert steps_of_a_run() == [3, 4]
    assert steps_of_a_run() == [1, 2, 3, 4]


def test_base_warm_start_and_policy_are_measured_with_both_differences(finished):
    evaluation = json.loads((finished / "evaluation.json").read_text())
    measured = ["before", "warm_start", "after"]
    differences = ["difference", "warm_start_difference", "alignment_difference"]
    assert list(evaluation) == [*measured, *differences, "group_changes"]
    for name in differences:
        assert evaluation[name]["builtin:tiny/held_out"]["esr"]["interval_95"]


def test_grpo_starts_from_the_warm_start_and_its_kl_is_measured_from_there(
    finished, monkeypatch, tmp_path
):
    """In 4 bits TRL casts the adapter to bfloat16; the start is nevertheless exact."""
    seen = {}

    def look(trainer, *_):
        seen["model"] = trainer.model

    monkeypatch.setattr(policy_training, "train", look)
    start = str(finished / "warm_start" / "adapter")
    recipe = recipe_of(warm_start=None, adapter=start, check_tasks=0)
    base = load_base(recipe.model)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        monkeypatch.setattr(policy_training, "save_adapter", lambda *arguments: None)
        monkeypatch.setattr(policy_training, "detach_adapters", lambda base: None)
        policy_training.run(recipe, folder, base, sandbox=None)
    expected = load_base(recipe.model)
    attach_adapter(expected, finished / "warm_start" / "adapter", "trained")
    saved = list(adapter_parameters(expected.model, "trained").values())
    for role in ("trained", "warm_start"):
        held = list(adapter_parameters(seen["model"], role).values())
        assert all(torch.equal(*pair) for pair in zip(saved, held, strict=True))
        assert all(parameter.dtype is torch.float32 for parameter in held)


def test_a_missing_start_adapter_is_refused_before_training(tmp_path):
    recipe = recipe_of(warm_start=None, adapter=str(tmp_path))
    with pytest.raises(ModelError, match=r"policy\.adapter: .* has no adapter_config\.json"):
        train(recipe, tmp_path / "run")


def test_an_sft_trainer_keeps_the_loss_on_the_completion(tmp_path):
    recipe = recipe_of()
    base = load_base(recipe.model)
    rows = [example(base.tokenizer, "Add.", "```python\nx\n```")] * 8
    config = trainers.SFTConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        completion_only_loss=True,
        bf16=False,
        use_cpu=True,
        report_to="none",
    )
    trainer = trainers.make_sft_trainer(base, recipe, config, rows, TrainerCallback())
    (labels, *_) = next(iter(trainer.get_train_dataloader()))["labels"].tolist()
    assert [label for label in labels if label != -100] == rows[0]["input_ids"][
        rows[0]["completion_mask"].index(1) :
    ]
