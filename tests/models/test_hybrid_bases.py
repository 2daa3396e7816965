"""Bases with linear attention in most layers: generation, the direct verdict, and training."""

import pytest
import torch
import transformers
from helpers.small_runs import CountingReward, small_recipe

from seccoderx_lite.models.adapters import adapter_parameters
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.generation import RoleGenerator
from seccoderx_lite.recipe.recipe import ModelRecipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer, prepare_generation

SIZES = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 1024,
}
MOE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
SHAPES = {"Qwen3_5TextConfig": SIZES, "Qwen3NextConfig": {**SIZES, **MOE}}
PROMPTS = ["Write a function.", "Write a function add(a, b) that adds two numbers, and test it."]


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, tmp_path_factory):
    """A base with random weights in a hybrid shape."""
    folder = tmp_path_factory.mktemp(request.param)
    getattr(transformers, request.param)(**SHAPES[request.param]).save_pretrained(folder)
    return f"random:{folder}"


@pytest.fixture(scope="module")
def base(shape):
    torch.manual_seed(0)
    return load_base(ModelRecipe(base=shape, quantization="none"))


def test_prompts_of_a_batch_are_completed_as_alone(base):
    generator = RoleGenerator(base, "reference", 4)
    together = generator.generate(PROMPTS, max_new_tokens=12, temperature=0.0)
    alone = [generator.generate([p], max_new_tokens=12, temperature=0.0)[0] for p in PROMPTS]
    assert together == alone and all(together)


def test_the_direct_verdict_has_the_probabilities_of_a_plain_forward_pass(base):
    generator = RoleGenerator(base, "reference", 4)
    answers = ("Yes", "No")
    together = generator.answer_probabilities(PROMPTS, ["", ""], answers)
    prefixed = generator.answer_probabilities(PROMPTS, ["Write a function"] * 2, answers)
    alone = [generator.answer_probabilities([p], [""], answers)[0] for p in PROMPTS]
    assert together == pytest.approx(alone, abs=1e-4)
    assert prefixed == pytest.approx(alone, abs=1e-4)


def test_a_step_of_grpo_trains_the_adapter(shape, tmp_path):
    recipe = small_recipe(steps=1, max_completion_tokens=8)
    recipe = recipe.model_copy(
        update={"model": ModelRecipe(base=shape, quantization="none", lora={"rank": 4})}
    )
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        base = load_base(recipe.model)
        clock = PhaseClock()
        recorder = StepRecorder("policy", folder, lambda *values: None, clock)
        config = grpo_config(recipe, recipe.policy.grpo, folder.checkpoints("policy"))
        rows = [{"prompt": [{"role": "user", "content": prompt}]} for prompt in PROMPTS]
        reward = CountingReward([1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5])
        trainer = make_grpo_trainer(base, recipe, config, rows, reward, recorder)
        prepare_generation(base, clock)
        train(trainer, folder.checkpoints("policy"))
        (record,) = folder.read_jsonl("metrics.jsonl")
    assert record["grad_norm"] > 0
    trained = adapter_parameters(base.model, "trained")
    moved = [name for name, p in trained.items() if "lora_B" in name and p.abs().sum() > 0]
    assert any("linear_attn" in name for name in moved)
