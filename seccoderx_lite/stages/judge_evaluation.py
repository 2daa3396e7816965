"""Measure a judge on labelled code: every answer kept as a line, every rate with an interval.

A folder of one evaluation holds `settings.json` (which judge, which data), `answers.jsonl` (one
line an answer) and `evaluation.json`. An interrupted evaluation asks only for what is missing, and
answers that failed through our own fault are asked for again.
"""

import dataclasses
import hashlib
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.records import Json, LabelledCode, Verdict, VerdictLabel
from seccoderx_lite.data.loading import load_labelled
from seccoderx_lite.evaluation.calibration import score_probabilities
from seccoderx_lite.evaluation.detection import (
    compare_detection,
    majority,
    score_detection,
    score_pairs,
)
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge, in_batches
from seccoderx_lite.run import files as folder_files
from seccoderx_lite.run.progress import Progress, no_progress

SETTINGS, ANSWERS, EVALUATION = "settings.json", "answers.jsonl", "evaluation.json"
REASONING_CHARS = 4000
"""What is kept of the reasoning of one answer."""


def load_data(source: str, limit: int | None = None, seed: int = 0) -> list[LabelledCode]:
    """Return labelled code or, with a limit, so many pairs and single pieces drawn at random.

    Raises:
        DataError: there is nothing to read, or its layout is not known.
    """
    labelled = load_labelled(source)
    names = list(dict.fromkeys(code.pair or n for n, code in enumerate(labelled)))
    if limit is None or limit >= len(names):
        return labelled
    chosen = set(random.Random(seed).sample(names, limit))
    return [code for n, code in enumerate(labelled) if (code.pair or n) in chosen]


def run(
    judge: LoadedJudge,
    labelled: Sequence[LabelledCode],
    folder: Path,
    *,
    data: str,
    samples: int = 1,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Json]:
    """Ask the judge about all code and return what goes to evaluation.json.

    Args:
        judge: who is asked.
        labelled: the code with its truth.
        folder: where everything is kept; made if need be.
        data: where the code came from, for the record.
        samples: answers a piece of code, the majority counts; one is greedy, more are sampled.
        seed: of the sampling and of the bootstrap.
        progress: is told how far it has come.

    Raises:
        RunFolderError: the folder belongs to another evaluation, or is in use.
        RecipeError: several samples are asked of a judge that does not sample.
    """
    settings: dict[str, Json] = {
        "judge": dict(judge.identity),
        "data": {"source": data, "n": len(labelled), "digest": digest_of(labelled)},
        "samples": samples,
        "seed": seed,
    }
    lock = folder_files.lock(folder)
    try:
        _claim(folder, settings)
        asked = _ask_all(judge, labelled, folder, samples, seed, progress)
        answers = read_answers(folder, len(labelled), samples)
        result = {
            "judge": {"name": judge.name, **judge.identity},
            "data": settings["data"],
            "samples": samples,
            **summarise(labelled, answers, seed),
            **asked,
        }
        folder_files.write_json(folder / EVALUATION, result)
    finally:
        os.close(lock)
    return result


def summarise(
    labelled: Sequence[LabelledCode], answers: Sequence[Sequence[Verdict]], seed: int = 0
) -> dict[str, Json]:
    """Return every score of the answers, as JSON; `answers` holds the samples of each piece."""
    verdicts = final_verdicts(answers)
    pairs = score_pairs(labelled, verdicts)
    probabilities = score_probabilities(labelled, [_probability(each) for each in answers], seed)
    return {
        "detection": dataclasses.asdict(score_detection(labelled, verdicts, seed)),
        "pairs": {**dataclasses.asdict(pairs), "interval_95": _pair_intervals(pairs)}
        if pairs.n
        else None,
        "probabilities": dataclasses.asdict(probabilities) if probabilities else None,
        "unread": sum(any(a.label == "unclear" and a.error for a in each) for each in answers),
        "errors": _reasons(answers),
    }


def _pair_intervals(pairs: Any) -> dict[str, Json]:
    names = ("correct", "both_vulnerable", "both_safe", "reversed", "unclear")
    return {name: pairs.share(getattr(pairs, name))[1] for name in names}


def _reasons(answers: Sequence[Sequence[Verdict]]) -> dict[str, int]:
    """Why code stayed unscored, and how often."""
    found: dict[str, int] = {}
    for answer in (a for each in answers for a in each if a.label is None):
        found[answer.error or "no answer"] = found.get(answer.error or "no answer", 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1])[:10])


def final_verdicts(answers: Sequence[Sequence[Verdict]]) -> list[VerdictLabel | None]:
    """Return one label a piece of code: the majority of its samples."""
    return [majority([answer.label for answer in samples]) for samples in answers]


def _probability(samples: Sequence[Verdict]) -> float | None:
    """The judge's probability; with several samples the share of clear ones that say vulnerable."""
    if len(samples) == 1:
        return samples[0].p_vulnerable
    clear = [answer.label for answer in samples if answer.label in ("vulnerable", "safe")]
    return clear.count("vulnerable") / len(clear) if clear else None


def compare(
    labelled: Sequence[LabelledCode],
    first: Sequence[VerdictLabel | None],
    second: Sequence[VerdictLabel | None],
    against: str,
    seed: int = 0,
) -> dict[str, Json]:
    """Return the difference between two judges on the same code, as JSON."""
    return {
        "against": against,
        **dataclasses.asdict(compare_detection(labelled, first, second, seed)),
    }


def read_answers(folder: Path, count: int, samples: int) -> list[list[Verdict]]:
    """Return the answers kept in a folder by piece of code; one that is missing is unscored."""
    missing = Verdict(None, error="not asked")
    answers = [[missing] * samples for _ in range(count)]
    for row in folder_files.read_jsonl(folder / ANSWERS):
        if row["index"] < count and row["sample"] < samples:
            answers[row["index"]][row["sample"]] = Verdict(
                row["label"], row["reasoning"], row["error"], row["p_vulnerable"]
            )
    return answers


def _claim(folder: Path, settings: Mapping[str, Json]) -> None:
    """Make the folder this evaluation's own, or refuse one of another."""
    folder_files.repair(folder)
    file = folder / SETTINGS
    if file.is_file():
        there = folder_files.read_json(file)
        if there != settings:
            other = [key for key in settings if there.get(key) != settings[key]]
            raise RunFolderError(
                f"{folder} holds another evaluation ({', '.join(other)} differ); choose another "
                "--run-folder, or remove it"
            )
    elif foreign := [entry.name for entry in folder.iterdir() if entry.name[0] != "."]:
        raise RunFolderError(
            f"{folder} is no evaluation and not empty (it has {foreign[0]}); choose another "
            "--run-folder"
        )
    folder_files.write_json(file, settings)


def _ask_all(
    judge: LoadedJudge,
    labelled: Sequence[LabelledCode],
    folder: Path,
    samples: int,
    seed: int,
    progress: Progress,
) -> dict[str, Json]:
    """Ask what is missing; return how long it took, for how many answers."""
    before = read_answers(folder, len(labelled), samples)
    jobs = [
        (index, sample)
        for sample in range(samples)
        for index in range(len(labelled))
        if before[index][sample].label is None
    ]
    items = [_item(labelled[index]) for index, _ in jobs]
    done, total, started = samples * len(labelled) - len(jobs), samples * len(labelled), time.time()
    progress("judge", done, total, {})
    for number, batch in enumerate(in_batches(items, judge.batch_size)):
        asked = [items[place] for place in batch]
        if samples == 1:
            verdicts = judge.verdicts(asked)
        else:
            verdicts = judge.sampled_verdicts(asked, seed * 1_000_003 + done + number)
        for (index, sample), verdict in zip((jobs[p] for p in batch), verdicts, strict=True):
            folder_files.append_jsonl(folder / ANSWERS, _row(index, sample, verdict))
        done += len(batch)
        progress("judge", done, total, {})
    return {"asked": len(jobs), "seconds": round(time.time() - started, 3)}


def _item(code: LabelledCode) -> CodeToJudge:
    return CodeToJudge(code.code, code.language, code.cwe)


def _row(index: int, sample: int, verdict: Verdict) -> dict[str, Json]:
    return {
        "index": index,
        "sample": sample,
        "label": verdict.label,
        "p_vulnerable": verdict.p_vulnerable,
        "reasoning": verdict.reasoning[:REASONING_CHARS],
        "error": verdict.error,
    }


def digest_of(labelled: Sequence[LabelledCode]) -> str:
    """Return what is equal for equal code with equal labels, in the same order."""
    digest = hashlib.sha256()
    for code in labelled:
        fields = (code.code, code.language, ",".join(code.cwe), str(code.is_vulnerable), code.pair)
        for field in fields:
            digest.update(str(field).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
