"""Flatten: the last stage's records as data sets, with splits, drops and a card.

`dataset/tasks.jsonl` has the toolkit's own columns, `split` among them; `dataset-seccoderx/` has
those of the published SecCoderX alignment sets, a file for each split, since other trainers take
every row of what they are given. Both load with `load_tasks` and with `datasets.load_dataset`.
Records stream through; only counts are in memory.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.languages import FILE_SUFFIXES
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.lines import AnyFolder, Record, passed, with_seed
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run.files import write_jsonl

DATASET, SECCODERX = "dataset", "dataset-seccoderx"
DROPS = "drops.jsonl"


def flatten(
    recipe: SynthRecipe, folder: AnyFolder, last: str, stages: Mapping[str, str]
) -> dict[str, Json]:
    """Write the data sets, drops.jsonl and the card; return the counts the card tells.

    Args:
        recipe: what was asked for.
        folder: the run folder.
        last: the file of the last stage.
        stages: name and file of every stage whose records may be dropped.

    Raises:
        DataError: no task is left.
    """
    drops = _write_drops(folder, stages)
    counts: Counter[tuple[str, str, str]] = Counter()
    left_out: Counter[str] = Counter()
    with_tests = _write_tasks(folder, last, counts, left_out)
    if not counts:
        raise DataError(
            f"no task is left: {_told(drops) or 'no seed gave one'}; see {folder.path / DROPS}"
        )
    per_split = _sums(counts, 0)
    for split in per_split if "seccoderx" in recipe.layouts else ():
        pairs = (pair for pair in _pairs(folder, last) if pair[0]["split"] == split)
        rows = (_as_seccoderx(recipe, *pair) for pair in pairs)
        write_jsonl(folder.path / SECCODERX / f"{split}.jsonl", rows)
    summary: dict[str, Json] = {
        "tasks": counts.total(),
        "with_tests": with_tests,
        "per_split": per_split,
        "per_cwe": _sums(counts, 1),
        "per_language": _sums(counts, 2),
        "dropped": {stage: dict(reasons.most_common()) for stage, reasons in drops.items()},
        "tests_left_out": dict(left_out.most_common()),
    }
    return summary


def _pairs(folder: AnyFolder, last: str) -> Iterator[tuple[Record, Record]]:
    return with_seed(folder, passed(folder, last))


def _write_tasks(
    folder: AnyFolder,
    last: str,
    counts: "Counter[tuple[str, str, str]]",
    left_out: "Counter[str]",
) -> int:
    """Write dataset/tasks.jsonl, count its tasks, and return how many have tests."""
    tested = 0

    def rows() -> Iterator[Record]:
        nonlocal tested
        for seed, record in _pairs(folder, last):
            counts[seed["split"], record["cwe"], record["language"]] += 1
            tested += record.get("tests") is not None
            if reason := record.get("tests_left_out"):
                left_out[reason] += 1
            yield _as_task(seed, record)

    write_jsonl(folder.path / DATASET / "tasks.jsonl", rows())
    return tested


def _as_task(seed: Record, record: Record) -> Record:
    """A row in our columns; tests as JSON text, since a table cannot hold mixed objects."""
    tests = record.get("tests")
    return {
        "id": record["id"],
        "prompt": record["prompt"],
        "language": record["language"],
        "cwe": [record["cwe"]],
        "reference": record.get("reference"),
        "tests": json.dumps(tests, ensure_ascii=False) if tests else None,
        "split": seed["split"],
        "seed": seed["id"],
        "scenario": record["scenario"],
        "design_plan": record["design_plan"],
        "sampled_language": record["sampled_language"],
    }


def _as_seccoderx(recipe: SynthRecipe, seed: Record, record: Record) -> Record:
    """A row in the columns of the published alignment sets (seccoderx.md, 4.4).

    Extended descriptions stay empty: the catalogue has none.
    """
    entry = cwe.get(record["cwe"])
    base = recipe.model.base if recipe.model else ""
    response = "response_" + re.sub(r"[/.:-]", "_", Path(base).name if "/" not in base else base)
    return {
        "scenario_id": record["scenario_id"],
        "scenario_text": record["scenario"],
        "problem": record["prompt"],
        "design_plan": record["design_plan"],
        "language_suffix": FILE_SUFFIXES[record["language"]],
        "cwe": record["cwe"],
        "cwe_id": [entry.id],
        "cwe_name": [entry.name],
        "cwe_description": [entry.description],
        "cwe_extended_description": [""],
        "record_code": seed["code"],
        "record_language_suffix": FILE_SUFFIXES[seed["language"]],
        "record_cve": seed["cve"] or "",
        "generated_code": record["reference"],
        response: record["completion"],
        "answer": None,
        "codebleu_lang": record["language"],
        "split": seed["split"],
    }


def _write_drops(folder: AnyFolder, stages: Mapping[str, str]) -> "dict[str, Counter[str]]":
    drops: dict[str, Counter[str]] = {stage: Counter() for stage in stages}

    def rows() -> Iterator[Record]:
        for stage, file in stages.items():
            for record in folder.read_jsonl(file):
                if reason := record.get("dropped"):
                    drops[stage][reason] += 1
                    yield {
                        "id": record["id"], "stage": stage, "reason": reason,
                        "detail": record.get("detail", ""),
                    }  # fmt: skip

    write_jsonl(folder.path / DROPS, rows())
    return {stage: reasons for stage, reasons in drops.items() if reasons}


def _sums(counts: "Counter[tuple[str, str, str]]", place: int) -> dict[str, Json]:
    sums: Counter[str] = Counter()
    for key, count in counts.items():
        sums[key[place]] += count
    keys = cwe.in_order([sums]) if place == 1 else sorted(sums)
    return {key: sums[key] for key in keys}


def _told(drops: "Mapping[str, Counter[str]]") -> str:
    return "; ".join(
        f"{stage}: {reason} ({count})"
        for stage, reasons in drops.items()
        for reason, count in reasons.most_common(3)
    )
