"""A small run of every stage for a few steps, also when it is killed in each of them."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import command_line
from helpers.small_runs import small_data
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from seccoderx_lite.core.errors import DataError, ModelError, RecipeError, RunStopped
from seccoderx_lite.judge.judge import CodeToJudge, Judge
from seccoderx_lite.judge.run_judge import second_base
from seccoderx_lite.models.adapters import attach_adapter
from seccoderx_lite.models.base import load_base, resolve_base
from seccoderx_lite.recipe.recipe import load_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.stages import export
from seccoderx_lite.stages.finished_run import export_again
from seccoderx_lite.stages.pipeline import train
from seccoderx_lite.stages.stage_table import planned_stages
from seccoderx_lite.training.resuming import latest_checkpoint

SMALL = """
name: small
model: {base: "builtin:tiny", lora: {rank: 4, alpha: 8}}
judge:
  max_new_tokens: 32
  batch_size: 16
  cold_start: {data: LABELLED, steps: 6, batch_size: 4, learning_rate: 1.0e-3, save_every: 2}
  align: {data: LABELLED, group_size: 2, prompts_per_step: 2, steps: 3, learning_rate: 1.0e-4,
          max_completion_tokens: 24, save_every: 1}
  canaries: {every: 2, count: 4, min_accuracy: 0.0, refuse_chance: false}
policy:
  tasks: TASKS
  grpo: {group_size: 4, prompts_per_step: 2, steps: 4, learning_rate: 1.0e-3, temperature: 1.0,
         max_completion_tokens: 96, save_every: 1}
  reward: {security_tests: true}  # the judge is too young to tell completions of a group apart
evaluate: {suites: ["builtin:tiny"], samples: 1, greedy: false, limit: 6, batch_size: 6,
           max_completion_tokens: 48}
export: {formats: [adapter, merged], gate_tasks: 4}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    data = small_data(folder)
    file = folder / "small.yaml"
    file.write_text(SMALL.replace("LABELLED", data["labelled"]).replace("TASKS", data["tasks"]))
    return file


@pytest.fixture(scope="module")
def finished(recipe_file, tmp_path_factory) -> Path:
    """A run that nothing disturbed, through the command line."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run_to_the_end(recipe_file, folder)
    return folder


def start(recipe_file, folder):
    arguments = ("train", str(recipe_file), "--run-folder", str(folder))
    return command_line.start(*arguments, log=folder.with_suffix(".log"))


def run_to_the_end(recipe_file, folder) -> None:
    process = start(recipe_file, folder)
    process.join()
    assert process.exitcode == 0, folder.with_suffix(".log").read_text()


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def weights(folder: Path, role: str) -> dict[str, torch.Tensor]:
    return load_file(folder / role / "adapter" / "adapter_model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_leaves_everything_the_contract_names(finished):
    names = [
        "recipe.yaml",
        "environment.json",
        "metrics.jsonl",
        "completions.jsonl",
        "evaluation.json",
        "judge/adapter/adapter_model.safetensors",
        "policy/adapter/adapter_model.safetensors",
        "export/README.md",
        "export/adapter/README.md",
        "export/adapter/chat_template.jinja",
        "export/merged/model.safetensors",
        "report.html",
    ]
    assert [name for name in names if not (finished / name).exists()] == []


def test_every_policy_step_records_its_reward_parts_phases_and_memory(finished):
    steps = [row for row in rows(finished / "metrics.jsonl") if row["stage"] == "policy"]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    for row in steps:
        assert {
            "reward",
            "reward/format",
            "reward/vulnerability",
            "kl",
            "tokens_per_s",
            "peak_memory_bytes",
            "unscored",
            "alarms",
        } <= row.keys()
        assert {"rollout", "judge", "tests", "reference", "update", "step"} <= row["seconds"].keys()
    assert any("canary_accuracy" in row for row in steps)


def test_rollouts_are_kept_with_every_reward_part_and_the_verdict(finished):
    for row in rows(finished / "completions.jsonl"):
        assert {"task", "completion", "reward", "parts", "verdict", "tests"} <= row.keys()


def test_evaluation_reports_before_and_after_by_split_with_intervals(finished):
    evaluation = json.loads((finished / "evaluation.json").read_text())
    for phase in ("before", "after"):
        assert set(evaluation[phase]) == {
            "builtin:tiny/held_out",
            "builtin:tiny/transfer",
            "builtin:tiny/benign",
        }
        scores = evaluation[phase]["builtin:tiny/held_out"]
        assert {
            "functional",
            "secure",
            "esr",
            "n",
            "unscored",
            "interval_95",
            "per_cwe",
        } <= scores.keys()
        assert scores["n"] == 6
    assert "esr" in evaluation["difference"]["builtin:tiny/held_out"]


def test_training_changes_the_policy_and_leaves_the_judge_as_it_was(finished):
    policy = weights(finished, "policy")
    assert any(tensor.abs().sum() > 0 for name, tensor in policy.items() if "lora_B" in name)
    aligned = load_file(finished / "judge" / "align" / "adapter_model.safetensors")
    assert same(weights(finished, "judge"), aligned)


def test_the_merged_export_works_in_plain_transformers(finished):
    folder = finished / "export" / "merged"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype is torch.bfloat16
    chat = [{"role": "user", "content": "Write a Python function add(a, b)."}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    ids = ids["input_ids"] if not isinstance(ids, torch.Tensor) else ids
    assert model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] > ids.shape[1]


def test_the_adapter_export_works_in_plain_peft(finished):
    base = AutoModelForCausalLM.from_pretrained(resolve_base("builtin:tiny"), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(finished / "export" / "adapter"))
    assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize(
    ("stage", "name"), [("judge/align", "accuracy"), ("policy", "reward/functional")]
)
def test_trackers_get_what_the_rewards_measure(finished, stage, name):
    state = latest_checkpoint(finished / stage / "checkpoints") / "trainer_state.json"
    history = [logs for logs in json.loads(state.read_text())["log_history"] if "loss" in logs]
    assert history
    assert all(isinstance(logs[name], float) for logs in history)


def test_a_finished_run_is_not_done_again(finished, recipe_file):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*.safetensors")}
    train(load_recipe(recipe_file), finished)
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*.safetensors")} == before


def test_a_named_stage_is_done_again(finished, recipe_file):
    report = finished / "report.html"
    report.write_text("old")
    train(load_recipe(recipe_file), finished, stages=["report"])
    assert report.read_text() != "old"


def test_data_of_later_stages_is_read_before_the_first_one_begins(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["evaluate.suites=[./not-there.jsonl]"])
    with pytest.raises(DataError, match=r"not-there\.jsonl"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "judge").exists()


def test_a_cascade_without_code_to_calibrate_on_is_refused_before_training(recipe_file, tmp_path):
    rows = [
        {
            "code": code,
            "language": "python",
            "cwe": ["CWE-95"],
            "is_vulnerable": code != "int(x)",
            "reasoning": "eval runs it",
            "split": "train",
        }
        for code in ("eval(x)", "int(x)")
    ]
    data = tmp_path / "labelled.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe(recipe_file, [f"judge.align.data={data}", "judge.verdict=cascade"])
    with pytest.raises(DataError, match=r"judge\.align\.data: split validation has no rows"):
        train(recipe, tmp_path / "run")


def test_a_stage_that_runs_again_makes_void_what_rests_on_it(recipe_file, tmp_path):
    """Here it fails because there is no judge, after the old result was discarded."""
    recipe = load_recipe(recipe_file)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        for stage in planned_stages(recipe):
            folder.mark_done(stage, {})
        folder.append_jsonl("answers.jsonl", {"phase": "after"})
    with pytest.raises(ModelError, match="no trained judge adapter"):
        train(recipe, tmp_path / "run", stages=["policy"])
    done = RunFolder.existing(tmp_path / "run")
    assert [stage for stage in planned_stages(recipe) if done.is_done(stage)] == [
        "cold_start",
        "align",
    ]
    assert list(done.read_jsonl("answers.jsonl")) == []


def test_an_unknown_stage_is_refused_with_the_stages_there_are(recipe_file, tmp_path):
    with pytest.raises(RecipeError, match="choose one of cold_start, align, policy"):
        train(load_recipe(recipe_file), tmp_path / "run", stages=["polish"])


def test_a_judge_on_another_base_is_a_second_model_with_the_same_verdicts(finished, recipe_file):
    recipe = load_recipe(
        recipe_file,
        [
            f"judge.adapter={finished / 'judge' / 'adapter'}",
            "judge.base=builtin:tiny",
            "judge.cold_start=null",
            "judge.align=null",
        ],
    )
    base = load_base(recipe.model)
    other = second_base(recipe.model, recipe.judge, finished / "judge" / "adapter")
    assert other.model is not base.model
    attach_adapter(base, finished / "judge" / "adapter", "judge")
    codes = [CodeToJudge("eval(text)", "python", ("CWE-95",)), CodeToJudge("x", "python", ())]
    shared = Judge.on(base, recipe.judge).verdicts(codes)
    assert Judge.on(other, recipe.judge).verdicts(codes) == shared


KILLED_WHEN = {
    "cold_start": lambda folder: has_step(folder, "cold_start", 3),
    "align": lambda folder: has_step(folder, "align", 2),
    "policy": lambda folder: has_step(folder, "policy", 2),
    "evaluate": lambda folder: len(rows(folder / "answers.jsonl")) >= 12,
    "export": lambda folder: (folder / "export").exists(),
}


def has_step(folder, stage, step):
    try:
        return any((r["stage"], r["step"]) == (stage, step) for r in rows(folder / "metrics.jsonl"))
    except ValueError:  # a line is being written
        return False


ASKED = {"policy": signal.SIGTERM, "evaluate": signal.SIGTERM}
"""Stages that are not killed but asked to stop; SIGINT may be ignored where tests run."""


def test_a_run_stopped_in_every_stage_ends_like_an_unbroken_one(finished, recipe_file, tmp_path):
    folder, log = tmp_path / "broken", tmp_path / "broken.log"
    for stage, is_time in KILLED_WHEN.items():
        process = start(recipe_file, folder)
        while process.is_alive() and not is_time(folder):
            time.sleep(0.01)
        assert process.is_alive(), f"the run ended before it could be stopped in {stage}"
        os.kill(process.pid, ASKED.get(stage, signal.SIGKILL))
        process.join()
        if stage in ASKED:
            assert process.exitcode == 130, log.read_text()
            assert "interrupted after" in log.read_text()
            assert "to go on: seccoderx-lite train" in log.read_text()
        if stage == "policy":
            saved = latest_checkpoint(folder / "policy/checkpoints").name
            assert saved == f"checkpoint-{rows(folder / 'metrics.jsonl')[-1]['step']}"
    run_to_the_end(recipe_file, folder)
    for role in ("judge", "policy"):
        assert same(weights(folder, role), weights(finished, role)), role
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(
        (finished / "evaluation.json").read_text()
    )
    mine, theirs = rows(folder / "metrics.jsonl"), rows(finished / "metrics.jsonl")
    assert [(r["stage"], r["step"], r["loss"]) for r in mine] == [
        (r["stage"], r["step"], r["loss"]) for r in theirs
    ]


def test_more_steps_extend_a_finished_run_from_its_last_checkpoint(finished, recipe_file, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    reported = []
    train(
        load_recipe(recipe_file, ["policy.grpo.steps=5"]),
        copy,
        progress=lambda stage, step, total, values: reported.append((stage, step, total)),
    )
    before, after = rows(finished / "metrics.jsonl"), rows(copy / "metrics.jsonl")
    assert after[: len(before)] == before
    assert [(row["stage"], row["step"]) for row in after[len(before) :]] == [("policy", 5)]
    assert same(weights(copy, "judge"), weights(finished, "judge"))
    assert not same(weights(copy, "policy"), weights(finished, "policy"))
    assert {stage for stage, _, total in reported if total > 1} == {"evaluate", "policy", "export"}
    assert RunFolder.existing(copy).read_summary("policy")["steps"] == 5


def test_the_judge_is_not_exported_in_the_policys_place(finished, tmp_path, recipe_file):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "policy" / "adapter")
    shutil.copytree(copy / "judge" / "adapter", copy / "policy" / "adapter")
    with pytest.raises(ModelError, match="contains the judge's weights"):
        export_again(copy, ["adapter"])


def test_a_rejected_export_costs_neither_the_adapter_nor_the_report(
    finished, tmp_path, recipe_file, monkeypatch
):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "export")
    (copy / "report.html").unlink()
    with RunFolder.open(copy, load_recipe(recipe_file)) as folder:
        folder.forget("export")
        folder.forget("report")
    adapter_then_merged = iter([True, False])
    monkeypatch.setattr(export, "is_close", lambda *figures: next(adapter_then_merged))
    with pytest.raises(RunStopped, match="the merged export differs from the trained policy"):
        train(load_recipe(recipe_file), copy)
    assert (copy / "report.html").exists()
    assert {path.name for path in (copy / "export").iterdir()} == {
        "adapter",
        "rejected",
        "README.md",
    }
    monkeypatch.undo()
    train(load_recipe(recipe_file), copy)
    assert (copy / "export" / "merged").is_dir()


def test_a_recipe_without_a_section_has_fewer_stages(recipe_file):
    assert planned_stages(load_recipe(recipe_file)) == [
        "cold_start",
        "align",
        "policy",
        "evaluate",
        "export",
        "report",
    ]
    fewer = load_recipe(recipe_file, ["evaluate=null", "export=null", "judge.align=null"])
    assert planned_stages(fewer) == ["cold_start", "policy", "report"]
