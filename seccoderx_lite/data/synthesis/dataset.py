"""The stage `flatten`: the last stage's lines as data sets with splits, and all drops in one file.

`dataset/tasks.jsonl` has the toolkit's own columns, with a column `split`. `dataset-seccoderx/` has
the columns of the published SecCoderX alignment sets and one file per split, since other trainers
use every row they are given. Both load with `load_tasks` and with `datasets.load_dataset`. Lines
are streamed; only counts are in memory.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.languages import FILE_SUFFIXES
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.card import TaskCounts, render_card
from seccoderx_lite.data.synthesis.context import Synthesis
from seccoderx_lite.data.synthesis.seeds import Seed, with_seed
from seccoderx_lite.data.synthesis.stage_files import AnyFolder, Line, passed
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run.files import write_jsonl

DATASET, SECCODERX = "dataset", "dataset-seccoderx"
DROPS = "drops.jsonl"

Drops = Mapping[str, "Counter[str]"]
"""For each stage the number of drops per reason."""


def write_dataset(synthesis: Synthesis, source: str, stages: Mapping[str, str]) -> dict[str, Json]:
    """Write the data sets with their cards and drops.jsonl; return the counts in the card.

    Args:
        synthesis: the synthesis.
        source: file of the last stage.
        stages: name and file of each stage that may drop lines.

    Raises:
        DataError: no task is left.
    """
    recipe, folder = synthesis.recipe, synthesis.folder
    drops = _write_drops(folder, stages)
    counts = _write_tasks(folder, source, drops)
    if "seccoderx" in recipe.layouts:
        for split in counts.per_split:
            rows = (
                _seccoderx_row(recipe, seed, line)
                for seed, line in with_seed(folder, passed(folder, source))
                if seed.split == split
            )
            write_jsonl(folder.path / SECCODERX / f"{split}.jsonl", rows)
    seeds, usage = folder.read_summary("seeds"), synthesis.replies.usage()
    for name in [DATASET, SECCODERX] if "seccoderx" in recipe.layouts else [DATASET]:
        card = render_card(recipe, seeds, counts, usage, has_split_files=name == SECCODERX)
        folder.write_text(f"{name}/README.md", card)
    return {**asdict(counts), "usage": asdict(usage)}


@dataclass
class _Counters:
    per_split: Counter[str] = field(default_factory=Counter)
    per_cwe: Counter[str] = field(default_factory=Counter)
    per_language: Counter[str] = field(default_factory=Counter)
    tests_left_out: Counter[str] = field(default_factory=Counter)
    with_tests: int = 0

    def add(self, seed: Seed, line: Line) -> None:
        self.per_split[seed.split] += 1
        self.per_cwe[line["cwe"]] += 1
        self.per_language[line["language"]] += 1
        self.with_tests += line.get("tests") is not None
        if reason := line.get("tests_left_out"):
            self.tests_left_out[reason] += 1


def _write_tasks(folder: AnyFolder, source: str, drops: Drops) -> TaskCounts:
    counters = _Counters()

    def rows() -> Iterator[Line]:
        for seed, line in with_seed(folder, passed(folder, source)):
            counters.add(seed, line)
            yield _task_row(seed, line)

    write_jsonl(folder.path / DATASET / "tasks.jsonl", rows())
    if not counters.per_split:
        reasons = "; ".join(
            f"{stage}: {reason} ({count})"
            for stage, counter in drops.items()
            for reason, count in counter.most_common(3)
        )
        raise DataError(
            f"no task is left: {reasons or 'no seed gave one'}; see {folder.path / DROPS}"
        )
    return TaskCounts(
        tasks=counters.per_split.total(),
        with_tests=counters.with_tests,
        per_split=dict(sorted(counters.per_split.items())),
        per_cwe={id_: counters.per_cwe[id_] for id_ in cwe.in_order([counters.per_cwe])},
        per_language=dict(sorted(counters.per_language.items())),
        dropped={stage: dict(counter.most_common()) for stage, counter in drops.items()},
        tests_left_out=dict(counters.tests_left_out.most_common()),
    )


def _task_row(seed: Seed, line: Line) -> Line:
    """Return a row in our columns; tests as JSON text, since a column has objects of one shape."""
    tests = line.get("tests")
    return {
        "id": line["id"],
        "prompt": line["prompt"],
        "language": line["language"],
        "cwe": [line["cwe"]],
        "reference": line.get("reference"),
        "tests": json.dumps(tests, ensure_ascii=False) if tests else None,
        "split": seed.split,
        "seed": seed.id,
        "scenario": line["scenario"],
        "design_plan": line["design_plan"],
        "sampled_language": line["sampled_language"],
    }


def _seccoderx_row(recipe: SynthRecipe, seed: Seed, line: Line) -> Line:
    """Return a row in the columns of the published SecCoderX alignment sets.

    Extended descriptions are empty: the catalogue has none.
    """
    entry = cwe.get(line["cwe"])
    base = recipe.model.base if recipe.model else ""
    response = "response_" + re.sub(r"[/.:-]", "_", Path(base).name if "/" not in base else base)
    return {
        "scenario_id": line["scenario_id"],
        "scenario_text": line["scenario"],
        "problem": line["prompt"],
        "design_plan": line["design_plan"],
        "language_suffix": FILE_SUFFIXES[line["language"]],
        "cwe": line["cwe"],
        "cwe_id": [entry.id],
        "cwe_name": [entry.name],
        "cwe_description": [entry.description],
        "cwe_extended_description": [""],
        "record_code": seed.code,
        "record_language_suffix": FILE_SUFFIXES[seed.language],
        "record_cve": seed.cve or "",
        "generated_code": line["reference"],
        response: line["completion"],
        "answer": None,
        "codebleu_lang": line["language"],
        "split": seed.split,
    }


def _write_drops(folder: AnyFolder, stages: Mapping[str, str]) -> Drops:
    drops: dict[str, Counter[str]] = {stage: Counter() for stage in stages}

    def rows() -> Iterator[Line]:
        for stage, file in stages.items():
            for line in folder.read_jsonl(file):
                if reason := line.get("dropped"):
                    drops[stage][reason] += 1
                    detail = line.get("detail", "")
                    yield {"id": line["id"], "stage": stage, "reason": reason, "detail": detail}

    write_jsonl(folder.path / DROPS, rows())
    return {stage: reasons for stage, reasons in drops.items() if reasons}
