"""Two CPU processes: one writer, and the training of one process."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from helpers import two_processes
from helpers.command_line import start_function
from safetensors.torch import load_file

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.distributed import combine_step_values
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.settings import grpo_config

TESTS = Path(__file__).parents[1]
# Without --multi_gpu the launcher starts one process where there is no GPU.
LAUNCH = [
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
]
RECIPE = """
name: two
model: {base: "builtin:tiny", lora: {rank: 4, alpha: 8}}
judge:
  verdict: direct
  cold_start: {data: "builtin:tiny", steps: 3, batch_size: 4, learning_rate: 1.0e-3}
  canaries: {every: 100, count: 4, refuse_chance: false}
policy:
  tasks: "builtin:tiny"
  grpo: {group_size: 4, prompts_per_step: 2, steps: 6, max_completion_tokens: 96, save_every: 2,
         learning_rate: 2.0e-3, kl: 0.05}
evaluate: {suites: ["builtin:tiny"], samples: 1, greedy: false, limit: 2, max_completion_tokens: 16}
export: {formats: [adapter], gate_tasks: 2}
"""
STAGES = ["cold_start", "policy", "evaluate", "export", "report"]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **more}


def run_pair(target):
    """Start two processes that find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [start_function(two_processes.as_one_of_two, rank, port, target) for rank in (0, 1)]
    for process in pair:
        process.join(timeout=900)
    assert [process.exitcode for process in pair] == [0, 0]


def test_two_processes_train_as_one_does(tmp_path):
    """Same global batch, same rollouts: the same losses and weights, to rounding."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    two_processes.main(tmp_path / "one")
    run_pair(tmp_path / "two")
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [row["step"] for row in two] == [1, 2, 3]
    for key in ("loss", "reward", "reward_std", "kl"):
        assert [row[key] for row in two] == pytest.approx([row[key] for row in one], abs=1e-4), key
    assert_same_training(
        *(
            load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
            for name in ("one", "two")
        )
    )


def assert_same_training(expected, got):
    """Two adapters, as one vector each: Adam makes a full step of a gradient that is rounding."""
    strayed = torch.cat([(got[name] - expected[name]).flatten() for name in expected])
    learnt = torch.cat([tensor.flatten() for name, tensor in expected.items() if "lora_B" in name])
    assert learnt.abs().max() > 1e-3
    assert strayed.norm() < 0.01 * learnt.norm()


def train_command(folder, *launch):
    (folder / "two.yaml").write_text(RECIPE)
    run = ["-m", "seccoderx_lite", "train", folder / "two.yaml", "--run-folder", folder / "run"]
    return [str(part) for part in (sys.executable, *launch, *run)]


def lines(folder, name):
    return [json.loads(line) for line in (folder / "run" / name).read_text().splitlines()]


def adapter_of(folder, stage):
    return load_file(folder / "run" / stage / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The whole command under the launcher, to its end."""
    folder = tmp_path_factory.mktemp("pair")
    subprocess.run(train_command(folder, *LAUNCH), check=True, env=environment(), timeout=900)
    return folder


@pytest.mark.slow
def test_the_launched_command_leaves_one_whole_run(pair):
    steps = [(row["stage"], row["step"]) for row in lines(pair, "metrics.jsonl")]
    assert steps == [("cold_start", n) for n in (1, 2, 3)] + [("policy", n) for n in range(1, 7)]
    assert list(json.loads((pair / "run" / "stages.json").read_text())) == STAGES
    asked = [(row["phase"], row["suite"], row["task"]) for row in lines(pair, "answers.jsonl")]
    assert len(asked) == len(set(asked)) > 0
    assert (pair / "run" / "export" / "adapter" / "adapter_model.safetensors").is_file()
    assert (pair / "run" / "report.html").is_file()


@pytest.mark.slow
def test_the_launched_command_trains_the_judge_that_one_process_trains(pair, tmp_path):
    """Policies differ, since every process samples by itself; what is supervised must not."""
    alone = [*train_command(tmp_path), "--stage", "cold_start"]
    subprocess.run(alone, check=True, env=environment(), timeout=900)
    losses = [
        [row["loss"] for row in lines(folder, "metrics.jsonl") if row["stage"] == "cold_start"]
        for folder in (tmp_path, pair)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert_same_training(*(adapter_of(folder, "judge/cold_start") for folder in (tmp_path, pair)))


@pytest.mark.slow
def test_a_launched_run_goes_on_after_one_of_its_processes_was_killed(pair, tmp_path):
    with subprocess.Popen(train_command(tmp_path, *LAUNCH), env=environment()) as launcher:
        while not any(row["step"] == 3 for row in policy_steps(tmp_path)):
            assert launcher.poll() is None
            time.sleep(0.05)
        second = next(
            child
            for child in psutil.Process(launcher.pid).children(recursive=True)
            if "seccoderx_lite" in child.cmdline() and child.environ().get("RANK") == "1"
        )
        second.kill()
        assert launcher.wait(timeout=120) != 0
    subprocess.run(train_command(tmp_path, *LAUNCH), check=True, env=environment(), timeout=900)
    for key in ("step", "loss", "reward", "kl"):
        resumed, unbroken = ([row[key] for row in policy_steps(f)] for f in (tmp_path, pair))
        assert resumed == pytest.approx(unbroken, abs=1e-6), key
    same = (adapter_of(folder, "policy/adapter") for folder in (tmp_path, pair))
    assert_same_training(*same)


def policy_steps(folder):
    if not (folder / "run" / "metrics.jsonl").exists():
        return []
    return [row for row in lines(folder, "metrics.jsonl") if row["stage"] == "policy"]


def test_a_checkpoint_loads_on_the_device_a_launched_process_is_given(tmp_path):
    torch.save({"moment": torch.ones(2)}, tmp_path / "optimizer.pt")
    loaded = torch.load(tmp_path / "optimizer.pt", map_location=torch.device("cpu", 0))
    assert torch.equal(loaded["moment"], torch.ones(2))


def test_each_process_must_get_whole_groups(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    recipe = check_recipe(
        {
            "name": "x",
            "model": {"base": "builtin:tiny"},
            "policy": {"tasks": "t", "reward": {"judge": False}, "grpo": {"prompts_per_step": 3}},
        },
        "x",
    )
    with pytest.raises(ModelError, match=r"multiple of the number of processes, 2.*got 3"):
        grpo_config(recipe, recipe.policy.grpo, tmp_path)


def test_shares_of_a_step_become_one_record():
    shares = [
        {"reward/format": 1.0, "unscored": 1, "rollout_esr": None, "alarms": ["a"]},
        {"reward/format": 0.5, "unscored": 2, "rollout_esr": 0.5, "alarms": ["a", "b"]},
    ]
    assert combine_step_values(shares) == {
        "reward/format": 0.75,
        "unscored": 3,
        "rollout_esr": 0.5,
        "alarms": ["a", "b"],
    }


def test_a_folder_that_another_process_writes_is_only_read(tmp_path):
    recipe = check_recipe({"name": "x", "model": {"base": "b"}, "evaluate": {"suites": ["s"]}}, "x")
    with RunFolder.open(tmp_path / "run", recipe) as first:
        first.append_jsonl("metrics.jsonl", {"step": 1})
        other = RunFolder.following(tmp_path / "run", recipe)
        other.append_jsonl("metrics.jsonl", {"step": 2})
        other.truncate_jsonl("metrics.jsonl", lambda row: False)
        other.mark_done("policy", {})
        assert list(other.read_jsonl("metrics.jsonl")) == [{"step": 1}]
        assert not other.is_done("policy")


@pytest.mark.slow
def test_a_failure_of_one_process_ends_the_others_with_its_message(tmp_path):
    command = train_command(tmp_path, *LAUNCH)
    command += ["-o", "policy.tasks=nowhere.jsonl"]
    done = subprocess.run(command, env=environment(), timeout=300, capture_output=True, text=True)
    assert done.returncode != 0
    assert "nowhere.jsonl: no such file or folder" in done.stderr
    assert "terminate called" not in done.stderr
