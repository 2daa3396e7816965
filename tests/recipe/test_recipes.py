"""Recipes for real models: their headers, and two steps of each on data as published.

The base is a random tiny model and the data lie in a folder named as on the hub, so that nothing
is downloaded.
"""

import json
import os
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from helpers.seccodeplt_rows import greeting
from helpers.small_models import small_model
from peft import get_peft_model

from seccoderx_lite.core.records import LabelledCode
from seccoderx_lite.data.loading import load_labelled, load_tasks, validation_or_all
from seccoderx_lite.judge.prompt import render_judge_prompt
from seccoderx_lite.judge.verdict import judge_answer
from seccoderx_lite.models.adapters import lora_config, save_adapter
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.estimate import estimate
from seccoderx_lite.models.gpus import GIB, GPUS
from seccoderx_lite.models.shapes import Shapes, model_shape
from seccoderx_lite.recipe.reading import value_at
from seccoderx_lite.recipe.recipe import load_recipe
from seccoderx_lite.stages.pipeline import train
from seccoderx_lite.stages.stage_table import planned_stages

ROOT = Path(__file__).parents[2]
REAL = sorted(file for file in (ROOT / "recipes").glob("*.yaml") if "tiny" not in file.stem)
CONFIG_OF = {"SecCoderX_Reasoning_Vulnerability_Detection_Reward_Model": "Qwen3-8B"}
CODE = "def run(text):\n    return eval(text)"
CWE = [("CWE-95", "Eval Injection", "Input becomes code.")]


def shape_of(base, folder):
    name = base.split("/")[1]
    folder.mkdir()
    config = Path(__file__).parents[1] / "models" / "configs" / f"{CONFIG_OF.get(name, name)}.json"
    (folder / "config.json").write_text(config.read_text())
    return model_shape(str(folder))


@pytest.mark.parametrize("file", REAL, ids=lambda file: file.stem)
def test_the_header_says_the_estimated_memory_and_the_recipe_fits_its_card(file, tmp_path):
    recipe = load_recipe(file)
    other = recipe.judge.base
    estimated = estimate(
        recipe,
        Shapes(
            shape_of(recipe.model.base, tmp_path / "base"),
            shape_of(other, tmp_path / "judge") if other else None,
        ),
    )
    header = re.search(
        r"# Memory: ([\d.]+) GiB at the peak \((.*?)\), \*estimated\*, on an? (.*?) with",
        file.read_text(),
    )
    assert header is not None
    assert float(header[1]) == pytest.approx(estimated.peak_bytes / GIB, abs=0.051)
    assert header[2] == estimated.worst.name
    assert estimated.peak_bytes < GPUS[header[3]].memory_bytes


def labelled_rows():
    prompt = render_judge_prompt(CODE, "python", CWE)
    safe = render_judge_prompt("def add(a, b):\n    return a + b", "python", CWE)
    return [(prompt, True), (safe, False)] * 2


def write(hub, name, rows, owner="SecCoderX", split="train"):
    folder = hub / owner / name / "data"
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Folders named and laid out as the published data sets, columns as in their cards."""
    hub = tmp_path_factory.mktemp("hub")
    write(hub, "SecCoderX_Reasoning_Vulnerability_Detection_SFT_Cold_Start_Dataset", [
        {"instruction": prompt, "output": judge_answer(truth, "The text is run.")}
        for prompt, truth in labelled_rows()
    ])  # fmt: skip
    write(hub, "SecCoderX_Reward_Model_GRPO_dataset", [
        {"problem": prompt, "answer": "Vulnerable;[CWE-95]" if truth else "Not Vulnerable;[]"}
        for prompt, truth in labelled_rows()
    ])  # fmt: skip
    for name in ("Qwen2.5_Coder_3B", "Qwen2.5_Coder_7B", "CodeLlama_7b"):
        write(hub, f"SecCoderX_{name}_GRPO_dataset", [alignment_row(n) for n in range(3)])
    write(hub, "SecCodePLT", [greeting(n) for n in range(4)], "Virtue-AI-HUB", "insecure_coding")
    small_model(
        hub / "random", hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return hub


def alignment_row(number):
    return {
        "scenario_id": number, "scenario_text": "A calculator.",
        "problem": f"Write a Python function run{number}(text).", "design_plan": "",
        "language_suffix": "py", "cwe": "CWE-95", "cwe_id": ["CWE-95"],
        "cwe_name": ["Eval Injection"], "cwe_description": ["Input becomes code."],
        "cwe_extended_description": [""], "record_code": CODE, "record_language_suffix": "py",
        "record_cve": "", "generated_code": CODE,
        "response_Qwen_Qwen2_5_Coder_7B_Instruct": f"```python\n{CODE}\n```", "answer": None,
        "codebleu_lang": "python",
    }  # fmt: skip


SHORTER = {
    "judge.base": "random", "judge.max_new_tokens": 4, "judge.max_code_chars": 500,
    "judge.canaries.refuse_chance": False,
    "judge.cold_start.steps": 2, "judge.cold_start.batch_size": 2,
    "judge.align.steps": 2, "judge.align.group_size": 2, "judge.align.prompts_per_step": 1,
    "judge.align.max_completion_tokens": 4,
    "policy.grpo.steps": 2, "policy.grpo.group_size": 2, "policy.grpo.prompts_per_step": 1,
    "policy.grpo.max_completion_tokens": 8, "model.max_prompt_tokens": 256, "sandbox.workers": 1,
}  # fmt: skip


def shortened(file):
    """The recipe for two steps per stage, where it has such a setting."""
    document = load_recipe(file).model_dump()
    overrides = [f"{key}={value}" for key, value in SHORTER.items() if value_at(document, key)]
    overrides += ["model.base=random", "evaluate=null", "export=null"]
    overrides += ["model.chat_template_kwargs={}"]  # the tiny template has no switch
    if document["judge"]["adapter"]:
        overrides.append("judge.adapter=adapter")
    return load_recipe(file, overrides)


@pytest.mark.parametrize("file", REAL, ids=lambda file: file.stem)
def test_two_steps_of_every_stage_run_on_the_published_columns(file, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(hub)
    recipe = shortened(file)
    if recipe.judge.adapter and not Path("adapter").exists():
        base = load_base(recipe.model)
        save_adapter(get_peft_model(base.model, lora_config(recipe.model.lora)), "trained",
                     Path("adapter").absolute())  # fmt: skip
    folder = train(recipe, tmp_path / "run")
    trained = [stage for stage in planned_stages(recipe) if stage != "report"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # Step 0 is the measurement on held-out tasks before the first one.
    assert [row["stage"] for row in rows if row["step"]] == [
        stage for stage in trained for _ in range(2)
    ]
    assert os.path.exists(folder / ("policy" if recipe.policy else "judge") / "adapter")


def test_published_data_without_a_validation_split_are_used_whole(hub, monkeypatch):
    monkeypatch.chdir(hub)
    tasks = load_tasks("SecCoderX/SecCoderX_CodeLlama_7b_GRPO_dataset")
    assert len(validation_or_all(tasks)) == 3
    of_split = [LabelledCode("x", "python", (), True, extra={"split": s})
                for s in ("train", "validation")]  # fmt: skip
    assert validation_or_all(of_split) == of_split[1:]
    assert len(load_labelled("SecCoderX/SecCoderX_Reward_Model_GRPO_dataset")) == 4
