"""A run that is killed at every stage boundary, and inside what must not be left half done."""

import json
import signal

import pytest
import torch
from helpers import command_line, kills
from helpers.kills import Moment
from helpers.small_runs import small_data
from safetensors.torch import load_file

RECIPE = """
name: killed
model: {base: "builtin:tiny", lora: {rank: 4, alpha: 8}}
judge:
  verdict: direct
  cold_start: {data: LABELLED, steps: 3, batch_size: 4, learning_rate: 1.0e-3, save_every: 2}
  canaries: {every: 100, count: 4, min_accuracy: 0.0, refuse_chance: false}
policy:
  tasks: TASKS
  warm_start: {steps: 4, batch_size: 2, learning_rate: 1.0e-3, save_every: 2}
  grpo: {group_size: 4, prompts_per_step: 2, steps: 4, learning_rate: 1.0e-3, temperature: 1.0,
         max_completion_tokens: 96, save_every: 1}
  reward: {security_tests: true}
evaluate: {suites: ["builtin:tiny"], samples: 1, greedy: false, limit: 2, max_completion_tokens: 16}
export: {formats: [adapter, merged], gate_tasks: 2}
"""
STAGES = ["cold_start", "warm_start", "policy", "evaluate", "export", "report"]
WITHIN = {
    "warm_start": {
        "between two checkpoints": Moment(
            "seccoderx_lite.run.folder.RunFolder.append_jsonl",
            after=True,
            stage="warm_start",
            steps=3,
        ),
        "before the adapter is saved": Moment("seccoderx_lite.stages.warm_start.save_adapter"),
        "after the adapter is saved": Moment(
            "seccoderx_lite.stages.warm_start.save_adapter", after=True
        ),
    },
    "policy": {
        "the judge's adapter was made active": Moment(
            "seccoderx_lite.models.adapter_switch._activate", "judge", True, "policy", 1
        ),
        "the judge has answered": Moment(
            "seccoderx_lite.models.adapter_switch._check_restored", "judge", False, "policy", 2
        ),
    },
    "export": {
        "weights without a tokenizer": Moment(
            "transformers.PreTrainedModel.save_pretrained", after=True
        ),
        "written, not compared": Moment("seccoderx_lite.stages.export._compare", "merged"),
    },
}
ADAPTERS = ["judge/adapter", "warm_start/adapter", "policy/adapter", "export/adapter"]


def moments():
    """In the order in which one run meets them."""
    mark_done = "seccoderx_lite.run.folder.RunFolder.mark_done"
    for stage in STAGES:
        for name, moment in WITHIN.get(stage, {}).items():
            yield f"{stage}: {name}", moment
        yield f"{stage}: done, not recorded", Moment(mark_done, stage)
        yield f"{stage}: recorded", Moment(mark_done, stage, after=True)


def steps_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["stage"], row["step"], row["loss"]) for row in lines]


def files_of(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_a_run_killed_at_every_boundary_ends_like_an_unbroken_one(tmp_path):
    data, recipe = small_data(tmp_path), tmp_path / "killed.yaml"
    recipe.write_text(RECIPE.replace("LABELLED", data["labelled"]).replace("TASKS", data["tasks"]))
    folders = {name: tmp_path / name for name in ("unbroken", "killed")}
    commands = {
        name: ("train", str(recipe), "--run-folder", str(folder))
        for name, folder in folders.items()
    }
    log = tmp_path / "log"
    for name, moment in moments():
        process = kills.start(moment, folders["killed"], *commands["killed"], log=log)
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"{name}: not killed\n{log.read_text()}"
    for command in commands.values():
        process = command_line.start(*command, log=log)
        process.join()
        assert process.exitcode == 0, log.read_text()

    unbroken, killed = folders.values()
    assert steps_of(killed) == steps_of(unbroken)
    for weights in (*(f"{name}/adapter_model" for name in ADAPTERS), "export/merged/model"):
        one, other = (load_file(folder / f"{weights}.safetensors") for folder in (unbroken, killed))
        assert one.keys() == other.keys(), weights
        assert all(torch.equal(one[key], other[key]) for key in one), weights
    assert files_of(killed) == files_of(unbroken)
    for name in ("evaluation.json", "completions.jsonl", "answers.jsonl"):
        assert (killed / name).read_text() == (unbroken / name).read_text(), name
