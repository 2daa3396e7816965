"""A small finished run and all that commands read: what the bad inputs are made of."""

import json
import shutil
from pathlib import Path

from seccoderx_lite.data.loading import load_labelled, load_tasks
from seccoderx_lite.models.base import resolve_base

RECIPE = """\
name: small
model: {base: "builtin:tiny", lora: {rank: 2, alpha: 4}}
judge:
  verdict: direct
  canaries: {count: 2, refuse_chance: false}
  cold_start: {data: LABELLED, steps: 1, batch_size: 2, max_tokens: 512}
policy:
  tasks: TASKS
  grpo: {group_size: 2, prompts_per_step: 1, steps: 1, max_completion_tokens: 8}
evaluate: {suites: [TASKS], samples: 1, greedy: false, max_completion_tokens: 8, limit: 2}
export: {gate_tasks: 1, max_kl: 100, formats: [adapter]}
tasks: {check: "off"}
"""


def make_world(folder: Path) -> Path:
    """Write recipe, data, sources and a copy of the tiny model; train the recipe into `run`."""
    from seccoderx_lite import load_recipe, train

    folder.mkdir(parents=True)
    write_rows(folder / "tasks.jsonl", _tasks())
    write_rows(folder / "labelled.jsonl", _labelled())
    (folder / "recipe.yaml").write_text(
        RECIPE.replace("LABELLED", "labelled.jsonl").replace("TASKS", "tasks.jsonl")
    )
    (folder / "code.py").write_text("import os\n\ndef show(name):\n    os.system(name)\n")
    shutil.copytree(resolve_base("builtin:tiny"), folder / "model")
    train(load_recipe(folder / "recipe.yaml"), folder / "run")
    return folder


def _tasks() -> list[dict]:
    rows = []
    for split in ("train", "validation", "held_out"):
        found = [task for task in load_tasks("builtin:tiny") if task.extra["split"] == split]
        for task in [task for task in found if task.cwe][:2]:
            rows.append(
                {
                    "id": task.id,
                    "prompt": task.prompt,
                    "language": task.language,
                    "cwe": list(task.cwe),
                    "reference": task.reference,
                    "tests": task.tests,
                    "split": split,
                }
            )
    return rows


def _labelled() -> list[dict]:
    rows = []
    for split in ("train", "validation", "held_out"):
        found = [row for row in load_labelled("builtin:tiny") if row.extra["split"] == split]
        for truth in (True, False):
            row = next(row for row in found if row.is_vulnerable is truth)
            rows.append(
                {
                    "code": row.code,
                    "language": row.language,
                    "cwe": list(row.cwe),
                    "is_vulnerable": row.is_vulnerable,
                    "reasoning": row.reasoning,
                    "split": split,
                }
            )
    return rows


def write_rows(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
