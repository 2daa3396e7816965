"""Measure a judge on labelled code: every verdict is stored, every rate has an interval.

The folder of one evaluation holds `settings.json` (which judge, which data), `answers.jsonl` (one
row per verdict) and `evaluation.json`. An interrupted evaluation asks only for what is missing;
verdicts that failed because of an internal error are asked for again.
"""

import hashlib
import os
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from seccoderx_lite.core.detection_scores import JudgeEvaluation, LabelledData
from seccoderx_lite.core.errors import RunFolderError, reason_of
from seccoderx_lite.core.records import Json, LabelledCode, Verdict, VerdictLabel
from seccoderx_lite.data.loading import load_labelled
from seccoderx_lite.evaluation.calibration import score_probabilities
from seccoderx_lite.evaluation.detection import majority, score_detection, score_pairs
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge, in_batches
from seccoderx_lite.judge.verdict import stored_verdict
from seccoderx_lite.run import files, stopping
from seccoderx_lite.run.progress import Progress, no_progress

SETTINGS, ANSWERS, EVALUATION = "settings.json", "answers.jsonl", "evaluation.json"
_KEYS = {"index": int, "sample": int, "reasoning": str}
_FIELDS = ("label", "reasoning", "error", "p_vulnerable")
REASONING_CHARS = 4000
"""Longest reasoning stored per verdict."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What identifies an evaluation of a judge: the content of settings.json."""

    judge: Mapping[str, Json]
    data: LabelledData
    samples: int
    seed: int


def load_data(source: str, limit: int | None = None, seed: int = 0) -> list[LabelledCode]:
    """Return labelled code; with a limit, that many pairs and single samples, drawn at random.

    Raises:
        DataError: there is nothing to read, or its layout is not known.
    """
    labelled = load_labelled(source)
    pairs = [code.pair or number for number, code in enumerate(labelled)]
    distinct = list(dict.fromkeys(pairs))
    if limit is None or limit >= len(distinct):
        return labelled
    chosen = set(random.Random(seed).sample(distinct, limit))
    return [code for code, pair in zip(labelled, pairs, strict=True) if pair in chosen]


def run(
    judge: LoadedJudge,
    labelled: Sequence[LabelledCode],
    folder: Path,
    *,
    data: str,
    samples: int = 1,
    seed: int = 0,
    progress: Progress = no_progress,
) -> JudgeEvaluation:
    """Ask the judge about all code, store its verdicts, and write evaluation.json.

    `data` says where the code came from, for the record. Of several `samples` per code sample the
    majority counts; a single one is greedy. `seed` seeds the sampling and the bootstrap.

    Raises:
        RunFolderError: the folder belongs to another evaluation, or is in use.
        RecipeError: the judge cannot give several samples.
    """
    source = LabelledData(data, len(labelled), digest_of(labelled))
    settings = Settings(dict(judge.identity), source, samples, seed)
    lock = files.lock(folder)
    try:
        _claim(folder, settings)
        started = time.time()
        with stopping.safe_points():
            asked = _ask_missing(judge, labelled, folder, samples, seed, progress)
        seconds = round(time.time() - started, 3)
        verdicts = read_verdicts(folder, len(labelled), samples)
        result = summarise(judge.name, settings, labelled, verdicts, asked, seconds)
        files.write_json(folder / EVALUATION, result.as_json())
    finally:
        os.close(lock)
    return result


def summarise(
    name: str,
    settings: Settings,
    labelled: Sequence[LabelledCode],
    verdicts: Sequence[Sequence[Verdict]],
    asked: int,
    seconds: float,
) -> JudgeEvaluation:
    """Return every score of a judge; `verdicts` holds the sampled verdicts per code sample."""
    labels = final_labels(verdicts)
    pairs = score_pairs(labelled, labels)
    failed = [verdict for samples in verdicts for verdict in samples if verdict.label is None]
    errors = Counter(verdict.error or "no answer" for verdict in failed)
    probabilities = list(map(_probability, verdicts))
    return JudgeEvaluation(
        judge={"name": name, **settings.judge},
        data=settings.data,
        samples=settings.samples,
        detection=score_detection(labelled, labels, settings.seed),
        pairs=pairs if pairs.n else None,
        probabilities=score_probabilities(labelled, probabilities, settings.seed),
        unread=sum(any(v.label == "unclear" and v.error for v in each) for each in verdicts),
        errors=dict(errors.most_common(10)),
        asked=asked,
        seconds=seconds,
    )


def final_labels(verdicts: Sequence[Sequence[Verdict]]) -> list[VerdictLabel | None]:
    """Return one label per code sample: the majority of its verdicts."""
    return [majority([verdict.label for verdict in samples]) for samples in verdicts]


def _probability(samples: Sequence[Verdict]) -> float | None:
    """The judge's probability; with several verdicts the share of clear ones that are vulnerable.

    None without a probability or a clear verdict.
    """
    if len(samples) == 1:
        return samples[0].p_vulnerable
    clear = [verdict.label for verdict in samples if verdict.label in ("vulnerable", "safe")]
    return clear.count("vulnerable") / len(clear) if clear else None


def read_verdicts(folder: Path, count: int, samples: int) -> list[list[Verdict]]:
    """Return the stored verdicts per code sample; one that is missing is unscored.

    Raises:
        RunFolderError: a line is damaged.
    """
    missing = Verdict(None, error="not asked")
    verdicts = [[missing] * samples for _ in range(count)]
    for row in files.read_jsonl(folder / ANSWERS, _KEYS):
        if row["index"] < count and row["sample"] < samples:
            verdicts[row["index"]][row["sample"]] = _stored(row, folder)
    return verdicts


def _stored(row: Mapping[str, Json], folder: Path) -> Verdict:
    try:
        return stored_verdict({name: row.get(name) for name in _FIELDS})
    except ValueError as error:
        raise RunFolderError(
            f"{folder / ANSWERS} is damaged: the line of index {row['index']} has no verdict "
            f"({reason_of(error)}); delete it"
        ) from error


def read_settings(folder: Path) -> Settings:
    """Return which judge and data an evaluation was made with.

    Raises:
        RunFolderError: the folder holds no evaluation of a judge.
    """
    return files.read_record(folder / SETTINGS, Settings)


def _claim(folder: Path, settings: Settings) -> None:
    """Make the folder this evaluation's own; refuse one with verdicts of another, or of no one."""
    files.repair(folder)
    if (folder / SETTINGS).is_file() and (folder / ANSWERS).is_file():
        stored, wanted = asdict(read_settings(folder)), asdict(settings)
        if changed := [key for key in wanted if stored[key] != wanted[key]]:
            raise RunFolderError(
                f"{folder} holds another evaluation ({', '.join(changed)} differ); choose another "
                "--run-folder, or remove it"
            )
    elif foreign := [
        entry.name for entry in folder.iterdir() if entry.name[0] != "." and entry.name != SETTINGS
    ]:
        raise RunFolderError(
            f"{folder} is not an evaluation folder and not empty (it has {foreign[0]}); choose "
            "another --run-folder"
        )
    files.write_json(folder / SETTINGS, asdict(settings))


def _ask_missing(
    judge: LoadedJudge,
    labelled: Sequence[LabelledCode],
    folder: Path,
    samples: int,
    seed: int,
    progress: Progress,
) -> int:
    """Ask for the verdicts that are not stored yet; return how many."""
    stored = read_verdicts(folder, len(labelled), samples)
    jobs = [
        (index, sample)
        for sample in range(samples)
        for index in range(len(labelled))
        if stored[index][sample].label is None
    ]
    items = [
        CodeToJudge(code.code, code.language, code.cwe)
        for code in (labelled[index] for index, _ in jobs)
    ]
    total = samples * len(labelled)
    done = total - len(jobs)
    progress("judge", done, total, {})
    stopping.check(f"after {done} of {total} verdicts")
    for number, batch in enumerate(in_batches(items, judge.batch_size)):
        asked = [items[place] for place in batch]
        if samples == 1:
            verdicts = judge.verdicts(asked)
        else:
            verdicts = judge.sampled_verdicts(asked, seed * 1_000_003 + done + number)
        for (index, sample), verdict in zip((jobs[p] for p in batch), verdicts, strict=True):
            files.append_jsonl(folder / ANSWERS, _row(index, sample, verdict))
        done += len(batch)
        progress("judge", done, total, {})
        stopping.check(f"after {done} of {total} verdicts")
    return len(jobs)


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
    """Return a digest that is equal for equal code with equal labels, in the same order."""
    digest = hashlib.sha256()
    for code in labelled:
        fields = (code.code, code.language, ",".join(code.cwe), str(code.is_vulnerable), code.pair)
        for field in fields:
            digest.update(str(field).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
