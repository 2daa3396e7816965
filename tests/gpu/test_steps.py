"""Training steps on a GPU: precision, memory, resuming, exporting, and work at the same time."""

import logging
import math
import time
from pathlib import Path

import pytest
import torch
from helpers.small_models import tiny_config
from helpers.small_runs import (
    COMPLETION,
    PROMPT,
    CountingReward,
    KilledError,
    KilledReward,
    live_logprobs,
    run_with_policy,
    small_recipe,
)
from transformers import AutoConfig, AutoModelForCausalLM

from seccoderx_lite.cli.bench import bench
from seccoderx_lite.core.records import Task
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.models.adapters import attach_adapter, save_random_adapter
from seccoderx_lite.models.base import load_base, resolve_base
from seccoderx_lite.recipe.recipe import (
    JudgeRecipe,
    LoraRecipe,
    ModelRecipe,
    RewardRecipe,
    check_recipe,
)
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import policy_training
from seccoderx_lite.stages.finished_run import export_again
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.role_proofs import sequence_logprobs
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer

pytestmark = pytest.mark.gpu

CONFIGS = Path(__file__).parents[1] / "models" / "configs"
ANY_SANDBOX = {"isolation": "limits-only"}


def recipe_with_judge(adapter, **grpo):
    settings = {"group_size": 4, "prompts_per_step": 2, "max_completion_tokens": 24, **grpo}
    return check_recipe(
        {
            "name": "gpu",
            "model": {"base": "builtin:tiny", "lora": {"rank": 4}},
            "judge": {"adapter": str(adapter), "verdict": "direct"},
            "policy": {"tasks": "builtin:tiny", "grpo": settings},
            "sandbox": ANY_SANDBOX,
        },
        "gpu",
    )


@pytest.mark.parametrize("has_bf16", [True, False], ids=["bfloat16", "float16"])
def test_a_policy_trains_with_judge_and_tests(tmp_path, monkeypatch, has_bf16):
    """Without bfloat16 this is the path of a T4: float16 with a gradient scaler."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: has_bf16)
    base = load_base(ModelRecipe(base="builtin:tiny"))
    save_random_adapter(base, LoraRecipe(rank=4), tmp_path / "judge")
    recipe = recipe_with_judge(tmp_path / "judge", steps=3, learning_rate=1e-3)
    with (
        Sandbox("limits-only") as sandbox,
        RunFolder.open(tmp_path / "run", recipe) as folder,
    ):
        policy_training.run(recipe, folder, base, sandbox)
        records = list(folder.read_jsonl("metrics.jsonl"))
        assert (folder.policy_adapter / "adapter_model.safetensors").is_file()
    assert [record["step"] for record in records] == [1, 2, 3]
    assert all(math.isfinite(record["loss"]) for record in records)
    assert {"rollout", "reference", "judge", "tests", "update"} <= records[-1]["seconds"].keys()


REWARDS = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]


def run_steps(folder, recipe, reward):
    recorder = StepRecorder("policy", folder, lambda *values: None, PhaseClock())
    config = grpo_config(recipe, recipe.policy.grpo, folder.checkpoints("policy"))
    rows = [{"prompt": [{"role": "user", "content": f"Write function {n}."}]} for n in range(8)]
    trainer = make_grpo_trainer(load_base(recipe.model), recipe, config, rows, reward, recorder)
    train(trainer, folder.checkpoints("policy"))
    return [(r["step"], r["loss"], r["grad_norm"]) for r in folder.read_jsonl("metrics.jsonl")]


def test_a_resumed_run_repeats_the_steps_of_an_unbroken_one(tmp_path):
    recipe = small_recipe(steps=4, save_every=2)
    with RunFolder.open(tmp_path / "whole", recipe) as folder:
        whole = run_steps(folder, recipe, CountingReward(REWARDS))
    with RunFolder.open(tmp_path / "broken", recipe) as folder:
        with pytest.raises(KilledError):
            run_steps(folder, recipe, KilledReward(REWARDS, call=4))
        resumed = run_steps(folder, recipe, CountingReward(REWARDS))
    assert [step for step, *_ in resumed] == [1, 2, 3, 4]
    for ours, theirs in zip(resumed, whole, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-3)


def test_an_export_is_the_policy_that_was_trained(tmp_path):
    with run_with_policy(tmp_path / "run", sandbox=ANY_SANDBOX) as folder:
        live = live_logprobs(folder).cpu()
    targets = export_again(tmp_path / "run", ["adapter", "merged"])
    assert (targets["adapter"] / "adapter_config.json").is_file()
    gaps = []
    for source in (targets["merged"], resolve_base("builtin:tiny")):
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        with torch.no_grad():
            gaps.append((sequence_logprobs(model, PROMPT, COMPLETION) - live).abs().mean())
    assert gaps[0] < 0.5 * gaps[1]


@pytest.mark.gpu(only=True)
def test_memory_that_runs_out_halves_the_micro_batch_and_the_run_ends(tmp_path, caplog):
    tiny_config(vocab_size=151936).save_pretrained(tmp_path / "shape")
    recipe = small_recipe(group_size=8, max_completion_tokens=256, steps=2)
    model = recipe.model.model_copy(update={"base": f"random:{tmp_path / 'shape'}"})
    recipe = recipe.model_copy(update={"model": model})
    reward = CountingReward(REWARDS * 2)
    torch.cuda.reset_peak_memory_stats()
    with RunFolder.open(tmp_path / "unlimited", recipe) as folder:
        run_steps(folder, recipe, reward)
    total = torch.cuda.get_device_properties(0).total_memory
    limit = 0.8 * torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        with (
            RunFolder.open(tmp_path / "limited", recipe) as folder,
            caplog.at_level(logging.WARNING),
        ):
            steps = [step for step, *_ in run_steps(folder, recipe, reward)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert steps == [1, 2]
    assert "retrying with micro-batches of 8 instead of 16" in caplog.text


@pytest.mark.gpu(only=True)
@pytest.mark.parametrize(
    "name",
    ["Qwen2.5-Coder-1.5B-Instruct", "Qwen2.5-Coder-7B-Instruct", "CodeLlama-7b-Instruct-hf"],
)
def test_the_estimate_is_within_a_tenth_of_the_peak(tmp_path, name):
    config = AutoConfig.from_pretrained(CONFIGS / f"{name}.json")
    config.num_hidden_layers = 6
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:6]
    config.save_pretrained(tmp_path)
    recipe = check_recipe(
        {
            "name": "gpu",
            "model": {"base": "builtin:tiny", "max_prompt_tokens": 512},
            "judge": {"adapter": "random", "batch_size": 8, "max_new_tokens": 32},
            "policy": {
                "tasks": "builtin:tiny",
                "grpo": {
                    "group_size": 8,
                    "prompts_per_step": 2,
                    "max_completion_tokens": 128,
                    "trainer": {"per_device_train_batch_size": 4},
                },
            },
            "sandbox": ANY_SANDBOX,
        },
        "gpu",
    )
    layouts = ["shared"]
    result = bench(recipe, random_shape=str(tmp_path), steps=2, rounds=1, layouts=layouts)
    figures = result.layouts["shared"]
    assert figures.estimated_peak_bytes == pytest.approx(figures.peak_memory_bytes, rel=0.1)


SLOW_TESTS = """
import time
import pytest
from candidate import f

@pytest.mark.functionality
def test_f():
    time.sleep(2)
    assert f() == 1
"""


@pytest.mark.gpu(only=True)
def test_tests_run_while_the_judge_answers(tmp_path):
    base = load_base(ModelRecipe(base="random:builtin:tiny"))
    save_random_adapter(base, LoraRecipe(rank=4), tmp_path / "judge")
    attach_adapter(base, tmp_path / "judge", "judge")
    judge = Judge.on(base, JudgeRecipe(adapter="judge", max_new_tokens=256))
    tests = {"kind": "calls", "source": SLOW_TESTS}
    task = Task("t", "Write f.", "python", ("CWE-89",), reference="def f():\n    return 1")

    def seconds(judge, tests, number):
        task_now = Task("t", task.prompt, task.language, task.cwe, task.reference, tests)
        text = f"```python\ndef f():\n    return {number} - {number - 1}\n```"
        with Sandbox("limits-only") as sandbox:
            start = time.perf_counter()
            Scorer(RewardRecipe(judge=judge is not None), judge, sandbox).score([task_now], [text])
            return time.perf_counter() - start

    seconds(judge, None, 1)  # the first generation on a GPU is slow
    judging, testing, both = (
        seconds(judge, None, 2),
        seconds(None, tests, 3),
        seconds(judge, tests, 4),
    )
    assert both < judging + testing - 0.5 * min(judging, testing)
