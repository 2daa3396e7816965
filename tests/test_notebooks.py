"""The notebooks, run from top to bottom with the tiny recipe cut to a few steps."""

import json
import shutil
from pathlib import Path

import nbclient
import nbformat
import pandas
import pytest
from helpers.small_runs import small_data

RECIPES = Path(__file__).parent.parent / "recipes"
SHORT = [
    "judge.cold_start.steps=2",
    "judge.align.steps=1",
    "policy.grpo.steps=2",
    "policy.grpo.prompts_per_step=2",
    "policy.grpo.max_completion_tokens=24",
    "judge.canaries.min_accuracy=0.0",
    "judge.canaries.refuse_chance=false",
    "judge.max_new_tokens=8",
    "evaluate.limit=2",
    "evaluate.samples=1",
    "evaluate.max_completion_tokens=24",
    "export=null",
]
WITH_A_JUDGE = [each for each in SHORT if not each.startswith(("judge.cold_start", "judge.align"))]


def execute(folder, name, overrides):
    """Run a notebook with overrides that keep it short, and return it with its outputs."""
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += f"\noverrides = {overrides!r}"
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
    return notebook


def pictures(notebook):
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def test_the_notebooks_run_from_top_to_bottom_and_show_plots(tmp_path):
    """In this order, because the second and third read the run folder of the first."""
    folder = tmp_path / "recipes" / "notebooks"
    shutil.copytree(RECIPES, folder.parent)
    data = small_data(tmp_path)
    of_judge = [f"judge.{stage}.data={data['labelled']}" for stage in ("cold_start", "align")]
    short = [*SHORT, *of_judge, f"policy.tasks={data['tasks']}"]
    shown = {
        name: pictures(execute(folder, name, overrides))
        for name, overrides in (
            ("quickstart", short),
            ("read_a_run", short),
            ("bring_your_own_tasks", WITH_A_JUDGE),
        )
    }
    assert shown == {"quickstart": 1, "read_a_run": 2, "bring_your_own_tasks": 1}


@pytest.mark.parametrize(
    "file", sorted((RECIPES / "notebooks").glob("*.ipynb")), ids=lambda f: f.stem
)
def test_notebooks_are_kept_without_outputs(file):
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


def test_reward_hacking_is_working_code_that_fooled_the_judge(tmp_path):
    """Code that does not work, or was judged vulnerable, is not shown as reward hacking."""
    notebook = nbformat.read(RECIPES / "notebooks" / "read_a_run.ipynb", as_version=4)
    (cell,) = [each.source for each in notebook.cells if "fooled =" in each.source]
    rows = [
        ("fooled", "safe", {"gate": 1.0, "security": 0.0}),
        ("broken", "safe", {"gate": 0.0, "security": 0.0}),
        ("caught", "vulnerable", {"gate": 1.0, "security": 0.0}),
        ("secure", "safe", {"gate": 1.0, "security": 1.0}),
    ]
    lines = [
        json.dumps({"step": 1, "task": task, "reward": 1.0, "completion": "x", "verdict": verdict,
                    "parts": parts})
        for task, verdict, parts in rows
    ]  # fmt: skip
    (tmp_path / "completions.jsonl").write_text("\n".join(lines))
    names = {"run_folder": str(tmp_path), "pd": pandas}
    exec(cell, names)
    assert list(names["fooled"]["task"]) == ["fooled"]
