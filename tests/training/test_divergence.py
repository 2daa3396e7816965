"""Training that goes wrong: what ends it, what it says, and that the last checkpoint is sound."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.small_runs import CountingReward, small_recipe
from peft import get_peft_model
from safetensors.torch import load_file

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapters import adapter_parameters, lora_config
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import LoraRecipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.divergence import SKIPPED, DivergenceGuard
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer

USUAL = {"loss": 0.5, "grad_norm": 2.0, "kl": 0.1, "reward": 3.0}


@pytest.fixture
def args(tmp_path):
    return SimpleNamespace(output_dir=str(tmp_path), fp16=False)


def after(values, args, stage="policy", steps=6):
    """Watch some usual steps, and then one with other values."""
    guard = DivergenceGuard(stage)
    for step in range(1, steps):
        guard.check_values(args, step, USUAL)
    guard.check_values(args, steps, {**USUAL, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": math.nan}, r"loss of step 6 is nan; likely cause: the learning rate"),
        ({"loss": -900.0}, r"loss of step 6 is -900, after a median of 0\.5"),
        ({"grad_norm": math.inf}, r"grad_norm of step 6 is inf"),
        ({"grad_norm": 900.0}, r"grad_norm of step 6 is 900, .* or a reward has outliers"),
        ({"kl": 150.0}, r"kl of step 6 is 150, .* moves too fast"),
        ({"reward": 4e9}, r"reward of step 6 is 4e\+09, .* policy\.reward\.terms pays without"),
    ],
)
def test_a_value_that_is_no_number_or_explodes_ends_training(args, values, message):
    with pytest.raises(ModelError, match=message):
        after(values, args)


@pytest.mark.parametrize(
    "values",
    [{"loss": 40.0}, {"grad_norm": 150.0}, {"kl": 5.0}, {"reward": -7.0}, {"reward": math.nan}, {}],
)
def test_values_of_sound_runs_do_not_end_training(args, values):
    after(values, args)


def test_the_first_steps_have_nothing_to_be_compared_with(args):
    after({"grad_norm": 900.0}, args, steps=3)


def test_the_message_names_the_last_sound_checkpoint_and_how_to_go_on(args, tmp_path):
    with pytest.raises(ModelError, match=r"no checkpoint was saved yet: .* --fresh"):
        after({"loss": math.nan}, args)
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    with pytest.raises(ModelError, match=r"checkpoint-10 is .* sound; .* -o policy\.adapter=/"):
        after({"loss": math.nan}, args)
    with pytest.raises(ModelError, match=r"checkpoint-10 is .* sound, but .* --fresh"):
        after({"loss": math.nan}, args, stage="align")


@pytest.fixture(scope="module")
def model():
    base = load_base(small_recipe().model)
    return get_peft_model(base.model, lora_config(LoraRecipe(rank=4)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_and_gradients_that_are_no_numbers_end_training(model, args, value):
    parameter = next(iter(adapter_parameters(model, "trained").values()))
    guard = DivergenceGuard("policy")
    kept = parameter.data.clone()
    parameter.grad = torch.zeros_like(parameter)
    guard.check_gradients(args, 1, model)
    guard.check_weights(args, 1, model)
    parameter.grad[0, 0] = value
    with pytest.raises(ModelError, match=r"policy: the gradient of step 2 is not finite"):
        guard.check_gradients(args, 2, model)
    parameter.data[0, 0] = value
    with pytest.raises(ModelError, match=r"policy: after step 2 the adapter has weights"):
        guard.check_weights(args, 2, model)
    parameter.data, parameter.grad = kept, None


def test_float16_may_skip_some_steps_that_overflow_but_not_all(model, args):
    args.fp16 = True
    parameter = next(iter(adapter_parameters(model, "trained").values()))
    parameter.grad = torch.full_like(parameter, math.inf)
    guard = DivergenceGuard("policy")
    for step in range(1, SKIPPED):
        guard.check_gradients(args, step, model)
    with pytest.raises(ModelError, match=rf"gradient of step {SKIPPED} is not finite"):
        guard.check_gradients(args, SKIPPED, model)
    parameter.grad = None


class Explodes(CountingReward):
    """Makes a gradient infinite in one step, as an overflow would."""

    def __init__(self, step):
        super().__init__([1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5])
        self.step, self.model = step, None

    def __call__(self, completion_ids, trainer_state, **columns):
        if trainer_state.global_step + 1 == self.step:
            parameter = next(iter(adapter_parameters(self.model, "trained").values()))
            parameter.register_hook(lambda gradient: gradient * math.inf)
        return super().__call__(completion_ids, **columns)


def test_an_overflow_ends_training_at_its_step_and_leaves_a_sound_checkpoint(tmp_path):
    recipe = small_recipe(steps=4, save_every=1, max_completion_tokens=4)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        reward = Explodes(3)
        base = load_base(recipe.model)
        checkpoints = folder.checkpoints("policy")
        recorder = StepRecorder("policy", folder, lambda *values: None, PhaseClock())
        config = grpo_config(recipe, recipe.policy.grpo, checkpoints)
        rows = [{"prompt": [{"role": "user", "content": f"Write function {n}."}]} for n in (1, 2)]
        trainer = make_grpo_trainer(base, recipe, config, rows, reward, recorder)
        reward.model = base.model
        with pytest.raises(ModelError, match=r"gradient of step 3 .* checkpoint-2 is from before"):
            train(trainer, checkpoints)
    saved = load_file(checkpoints / "checkpoint-2" / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())
    assert not (checkpoints / "checkpoint-3").exists()
