"""Two CPU processes: one writer, and the training of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes
from safetensors.torch import load_file

from seccoderx_lite.errors import ModelError
from seccoderx_lite.processes import together
from seccoderx_lite.recipe import check_recipe
from seccoderx_lite.run_folder import RunFolder
from seccoderx_lite.training import grpo_config

TESTS = Path(__file__).parent
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
          "--master-port", "0"]  # fmt: skip
RECIPE = """
name: two
model: {base: "builtin:tiny", lora: {rank: 4, alpha: 8}}
judge:
  max_new_tokens: 8
  cold_start: {data: "builtin:tiny", steps: 2, batch_size: 4, learning_rate: 1.0e-3}
  canaries: {every: 100}
policy:
  tasks: "builtin:tiny"
  grpo: {group_size: 2, prompts_per_step: 2, steps: 2, max_completion_tokens: 16}
"""


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **more}


def run_pair(*command):
    """Start two processes that find each other as a launcher would have them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pair = [
        subprocess.Popen(
            [sys.executable, *map(str, command)], stderr=subprocess.PIPE, text=True,
            env=environment(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
                            MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    for process in pair:
        _, told = process.communicate(timeout=900)
        assert process.returncode == 0, told[-3000:]


def test_two_processes_train_as_one_does(tmp_path):
    """Same global batch, same rollouts: the same losses and weights, to rounding."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    two_processes.main(tmp_path / "one")
    run_pair(TESTS / "two_processes.py", tmp_path / "two")
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [row["step"] for row in two] == [1, 2, 3]
    for key in ("loss", "reward", "reward_std", "kl"):
        assert [row[key] for row in two] == pytest.approx([row[key] for row in one], abs=1e-4), key
    expected = load_file(tmp_path / "one" / "adapter" / "adapter_model.safetensors")
    got = load_file(tmp_path / "two" / "adapter" / "adapter_model.safetensors")
    moved = max(tensor.abs().max() for name, tensor in expected.items() if "lora_B" in name)
    assert moved > 1e-3
    # As one vector: Adam makes a full step of a gradient that is nothing but rounding.
    strayed = torch.cat([(got[name] - expected[name]).flatten() for name in expected])
    learnt = torch.cat([tensor.flatten() for name, tensor in expected.items() if "lora_B" in name])
    assert strayed.norm() < 0.01 * learnt.norm()


@pytest.mark.slow
def test_a_run_of_two_processes_leaves_one_run_folder(tmp_path):
    file = tmp_path / "two.yaml"
    file.write_text(RECIPE)
    command = ["-m", "seccoderx_lite", "train", file, "--run-folder", tmp_path / "run"]
    subprocess.run([*LAUNCH, *map(str, command)], check=True, env=environment(), timeout=900)
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [(row["stage"], row["step"]) for row in rows] == [
        ("cold_start", 1), ("cold_start", 2), ("policy", 1), ("policy", 2)
    ]  # fmt: skip
    assert (tmp_path / "run" / "policy" / "adapter" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_each_process_must_get_whole_groups(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    recipe = check_recipe(
        {"name": "x", "model": {"base": "builtin:tiny"},
         "policy": {"tasks": "t", "reward": {"judge": False}, "grpo": {"prompts_per_step": 3}}},
        "x",
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"multiple of the number of processes, 2.*got 3"):
        grpo_config(recipe, recipe.policy.grpo, tmp_path)


def test_shares_of_a_step_become_one_record():
    shares = [
        {"reward/format": 1.0, "unscored": 1, "rollout_esr": None, "alarms": ["a"]},
        {"reward/format": 0.5, "unscored": 2, "rollout_esr": 0.5, "alarms": ["a", "b"]},
    ]
    assert together(shares) == {
        "reward/format": 0.75, "unscored": 3, "rollout_esr": 0.5, "alarms": ["a", "b"]
    }  # fmt: skip


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
