"""TRL's GRPO as we set it up, against the formula worked out by hand; and resuming."""

import statistics
from types import SimpleNamespace

import pytest
import torch
import trl
from helpers.small_runs import GROUP, CountingReward, KilledError, KilledReward, small_recipe
from packaging.version import Version
from trl.trainer import utils as trl_utils

from seccoderx_lite.core.errors import ModelError, RecipeError
from seccoderx_lite.models import precision
from seccoderx_lite.models.adapters import adapter_parameters
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import GrpoRecipe, check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training import step_records
from seccoderx_lite.training.resuming import latest_checkpoint, train
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer


def run_steps(folder, recipe, reward):
    base = load_base(recipe.model)
    section = recipe.policy.grpo
    recorder = StepRecorder("policy", folder, lambda *values: None, PhaseClock())
    config = grpo_config(recipe, section, folder.checkpoints("policy"))
    rows = [
        {"prompt": [{"role": "user", "content": f"Write a function number {n}."}]} for n in (1, 2)
    ]
    trainer = make_grpo_trainer(base, recipe, config, rows, reward, recorder)
    train(trainer, folder.checkpoints("policy"))
    return base


def advantages_by_hand(rewards):
    advantages = []
    for start in range(0, len(rewards), GROUP):
        group = [r for r in rewards[start : start + GROUP] if r is not None]
        mean, spread = statistics.mean(group), statistics.stdev(group)
        advantages += [
            0.0 if r is None else (r - mean) / (spread + 1e-4)
            for r in rewards[start : start + GROUP]
        ]
    return advantages


@pytest.mark.parametrize(
    "rewards",
    [
        [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5],
        [1.0, None, 0.0, 3.0, 2.0, 2.0, None, 0.5],
    ],
    ids=["all scored", "two unscored"],
)
def test_the_first_loss_is_the_one_worked_out_by_hand(tmp_path, rewards):
    """With a fresh adapter the policy is the reference: ratio 1, KL 0, only advantages are left."""
    recipe = small_recipe()
    reward = CountingReward(rewards)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        run_steps(folder, recipe, reward)
        (record,) = folder.read_jsonl("metrics.jsonl")
    weighted = sum(
        a * length for a, length in zip(advantages_by_hand(rewards), reward.lengths, strict=True)
    )
    assert record["loss"] == pytest.approx(-weighted / sum(reward.lengths), abs=1e-4)
    assert record["kl"] == pytest.approx(0.0, abs=1e-6)


def test_micro_batches_give_the_step_of_the_whole_batch(tmp_path):
    rewards = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]
    losses = []
    for name, trainer in (("whole", {}), ("parts", {"per_device_train_batch_size": 4})):
        recipe = small_recipe(trainer=trainer)
        with RunFolder.open(tmp_path / name, recipe) as folder:
            run_steps(folder, recipe, CountingReward(rewards))
            losses += [record["loss"] for record in folder.read_jsonl("metrics.jsonl")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_a_micro_batch_that_does_not_divide_the_step_is_refused(tmp_path):
    recipe = small_recipe(trainer={"per_device_train_batch_size": 3})
    with pytest.raises(
        ModelError, match=r"must divide group_size x prompts_per_step = 8 \(got 3\)"
    ):
        grpo_config(recipe, recipe.policy.grpo, tmp_path)


def test_a_micro_batch_beyond_the_step_is_the_whole_step(tmp_path):
    recipe = small_recipe(trainer={"per_device_train_batch_size": 16})
    config = grpo_config(recipe, recipe.policy.grpo, tmp_path)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (8, 1)


def test_trl_starts_no_engine_of_its_own_and_so_merges_nothing(tmp_path):
    recipe = small_recipe(rollout_engine="vllm")
    assert grpo_config(recipe, recipe.policy.grpo, tmp_path).use_vllm is False


@pytest.mark.parametrize("section", ["judge.align", "policy.grpo"])
@pytest.mark.parametrize(
    "setting", ["use_vllm", "use_transformers_continuous_batching", "use_transformers_paged"]
)
def test_engines_of_trl_that_merge_or_round_the_adapter_are_refused(section, setting):
    trainer = {"trainer": {setting: True}}
    document = {
        "name": "x",
        "model": {"base": "builtin:tiny"},
        "judge": {"align": {"data": "builtin:tiny", **(trainer if "align" in section else {})}},
        "policy": {"tasks": "builtin:tiny", "grpo": trainer if "grpo" in section else {}},
    }
    with pytest.raises(
        RecipeError, match=rf"{section}.trainer.{setting}: makes TRL merge or round"
    ):
        check_recipe(document, "x")


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path):
    rewards = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]
    recipe = small_recipe(steps=4, save_every=2)
    with RunFolder.open(tmp_path / "whole", recipe) as folder:
        whole = run_steps(folder, recipe, CountingReward(rewards))
        records = list(folder.read_jsonl("metrics.jsonl"))
    with RunFolder.open(tmp_path / "broken", recipe) as folder:
        with pytest.raises(KilledError):
            run_steps(folder, recipe, KilledReward(rewards, call=4))
        resumed = run_steps(folder, recipe, CountingReward(rewards))
        steps = [(record["step"], record["loss"]) for record in folder.read_jsonl("metrics.jsonl")]
    assert steps == [(record["step"], record["loss"]) for record in records]
    expected = adapter_parameters(whole.model, "trained")
    for name, parameter in adapter_parameters(resumed.model, "trained").items():
        assert torch.equal(parameter, expected[name])


def test_phases_of_a_step_add_up_to_its_time():
    clock = PhaseClock()
    clock.start()
    for phase in ("rollout", "judge", "rollout"):
        clock.lap(phase)
    seconds = clock.read()
    assert seconds["step"] == pytest.approx(seconds["rollout"] + seconds["judge"])
    assert GrpoRecipe().group_size >= 2


def test_a_large_model_trains_in_bfloat16_on_a_cpu_that_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda file: True)
    monkeypatch.setattr(precision, "_LARGE", 1)
    recipe = small_recipe(steps=1)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        assert grpo_config(recipe, recipe.policy.grpo, tmp_path).bf16
        base = run_steps(folder, recipe, CountingReward([1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]))
    trained = adapter_parameters(base.model, "trained")
    assert all(parameter.dtype is torch.float32 for parameter in trained.values())
    assert any(values.any() for name, values in trained.items() if "lora_B" in name)


def test_a_checkpoint_is_also_saved_when_the_last_one_is_old(tmp_path, monkeypatch):
    recipe = small_recipe(steps=2, save_every=50)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        monkeypatch.setattr(step_records, "SAVE_SECONDS", 0.0)
        run_steps(folder, recipe, CountingReward([1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]))
        assert (folder.checkpoints("policy") / "checkpoint-1").is_dir()
        rows = list(folder.read_jsonl("metrics.jsonl"))
    assert [row["step"] for row in rows] == [1, 2]


def test_a_step_that_ruins_the_weights_ends_training_and_leaves_no_checkpoint(tmp_path):
    recipe = small_recipe(steps=2, save_every=1, learning_rate=1e39)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        with pytest.raises(ModelError, match=r"policy: .*not finite.*lower the learning rate"):
            run_steps(folder, recipe, CountingReward([1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]))
        assert latest_checkpoint(folder.checkpoints("policy")) is None


def test_the_language_head_scores_only_the_tokens_that_are_trained(tmp_path, monkeypatch):
    """TRL 1.16 alone would score the prompts too on a CPU."""
    if Version(trl.__version__) < Version("1.15"):
        pytest.skip("this version of TRL scores only trained tokens everywhere")
    head, scored = trl_utils._ChunkedLogProbFunction, []

    def spy(hidden, *rest):
        scored.append(len(hidden))
        return head.apply(hidden, *rest)

    monkeypatch.setattr(trl_utils, "_ChunkedLogProbFunction", SimpleNamespace(apply=spy))
    recipe = small_recipe()
    reward = CountingReward([1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5])
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        run_steps(folder, recipe, reward)
    longest = recipe.policy.grpo.max_completion_tokens
    assert scored and all(0 < count <= GROUP * 2 * longest for count in scored)
