"""A base that changes while an adapter is trained stops the run, whatever changed it."""

import pytest
import torch
from helpers.small_runs import CountingReward, small_recipe
from transformers import TrainerCallback

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.base_digests import base_digests
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config, sft_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer, make_sft_trainer

REWARDS = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]
PROMPT = [{"role": "user", "content": "Write a function."}]
ANSWER = [{"role": "assistant", "content": "def f(): pass"}]


def merge_and_unmerge(model):
    """What TRL does to give its weights to vLLM."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    model.merge_adapter()
    model.unmerge_adapter()


def scale_absmax(model):
    weight = next(p for n, p in model.named_parameters() if hasattr(p, "quant_state"))
    weight.quant_state.absmax[0] ^= 1


def flip_one_code(model):
    weight = next(p for n, p in model.named_parameters() if hasattr(p, "quant_state"))
    weight.data[0] ^= 1


def nudge_a_norm(model):
    weight = next(p for n, p in model.named_parameters() if n.endswith("norm.weight"))
    weight.data[0] += 1e-3


class Damage(TrainerCallback):
    """Damages the base after a step's rollouts, before its update."""

    def __init__(self, damage, step):
        self.damage = damage
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            self.damage(kwargs["model"])


def run(folder, recipe, *callbacks, stage="grpo"):
    base = load_base(recipe.model)
    recorder = StepRecorder("policy", folder, lambda *values: None, PhaseClock())
    checkpoints = folder.checkpoints("policy")
    if stage == "grpo":
        config = grpo_config(recipe, recipe.policy.grpo, checkpoints)
        rows = [{"prompt": PROMPT}, {"prompt": PROMPT}]
        trainer = make_grpo_trainer(base, recipe, config, rows, CountingReward(REWARDS), recorder)
    else:
        config = sft_config(recipe, recipe.policy.warm_start, checkpoints)
        rows = [{"prompt": PROMPT, "completion": ANSWER}] * 4
        trainer = make_sft_trainer(base, recipe, config, rows, recorder)
    for callback in callbacks:
        trainer.add_callback(callback)
    train(trainer, checkpoints)
    return base


@pytest.mark.parametrize("damage", [merge_and_unmerge, scale_absmax, flip_one_code, nudge_a_norm])
def test_a_change_of_the_base_stops_the_run_before_a_checkpoint_is_saved(tmp_path, damage):
    recipe = small_recipe(steps=1)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        with pytest.raises(ModelError, match=r"step 1: the base model changed .* differ"):
            run(folder, recipe, Damage(damage, step=1))
        assert not list(folder.checkpoints("policy").glob("checkpoint-*"))


def test_supervised_training_is_guarded_too(tmp_path):
    warm_start = {"steps": 1, "batch_size": 4}
    small = small_recipe()
    policy = small.policy.model_validate(small.policy.model_dump() | {"warm_start": warm_start})
    recipe = small.model_copy(update={"policy": policy})
    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(ModelError, match="the base model changed"),
    ):
        run(folder, recipe, Damage(scale_absmax, step=1), stage="sft")


def test_a_checkpoint_in_the_middle_of_a_run_finds_damage_of_all_layers(tmp_path):
    recipe = small_recipe(steps=3, save_every=2)
    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(ModelError, match=r"step 2: the base model changed"),
    ):
        run(folder, recipe, Damage(merge_and_unmerge, step=1))


def test_training_alone_leaves_every_bit_of_the_base(tmp_path):
    recipe = small_recipe(steps=2)

    def weights(model):
        digests = base_digests(model).items()
        return sorted((n.rsplit("layers.")[-1].replace(".base_layer", ""), d) for n, d in digests)

    untouched = dict(weights(load_base(recipe.model).model))
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        trained = dict(weights(run(folder, recipe).model))
    quantised = [name for name in untouched if "proj" in name]
    assert quantised
    assert [trained[name] for name in quantised] == [untouched[name] for name in quantised]
