"""`eval judge`: from names and options to one or two measured judges."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from seccoderx_lite.core.detection_scores import JudgeEvaluation
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json, LabelledCode, VerdictLabel
from seccoderx_lite.evaluation.detection import compare_detection
from seccoderx_lite.judge.loading import load_judge
from seccoderx_lite.run import files
from seccoderx_lite.run.progress import Progress, no_progress
from seccoderx_lite.stages import judge_evaluation
from seccoderx_lite.training.judge_probe import why_it_cannot_judge


def evaluate_judge(
    model: str,
    data: str,
    *,
    adapter: Path | None = None,
    settings: Mapping[str, Json] | None = None,
    samples: int = 1,
    limit: int | None = None,
    against: str | None = None,
    run_folder: Path | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[Path, JudgeEvaluation]:
    """Measure a judge and, with `against`, compare it with another; return folder and result.

    `against` is a judge as `judge.loading` takes it, or the folder of an earlier evaluation on the
    same data. `settings` are fields of `JudgeRecipe` for both judges.

    Raises:
        SeccoderxError: a judge or the data cannot be loaded, or the folder is of another
            evaluation.
    """
    labelled = judge_evaluation.load_data(data, limit, seed)
    measure = functools.partial(
        judge_evaluation.run,
        labelled=labelled,
        data=data,
        samples=samples,
        seed=seed,
        progress=progress,
    )
    folder = run_folder or default_folder(model, data, settings)
    judge = load_judge(model, adapter=adapter, settings=settings)
    result = measure(judge, folder=folder)
    if refusal := why_it_cannot_judge(judge, _stored_labels(folder, len(labelled))):
        result = dataclasses.replace(result, refusal=refusal)
        files.write_json(folder / judge_evaluation.EVALUATION, result.as_json())
    if against is None:
        return folder, result
    earlier = Path(against)
    if (earlier / judge_evaluation.ANSWERS).is_file() and not (earlier / "recipe.yaml").is_file():
        other = earlier
        _check_same_data(earlier, labelled)
    else:
        other = default_folder(against, data, settings)
        measure(load_judge(against, settings=settings), folder=other)
    first, second = (_stored_labels(place, len(labelled)) for place in (folder, other))
    comparison = compare_detection(labelled, first, second, seed, against)
    result = dataclasses.replace(result, comparison=comparison)
    files.write_json(folder / judge_evaluation.EVALUATION, result.as_json())
    return folder, result


def default_folder(model: str, data: str, settings: Mapping[str, Json] | None = None) -> Path:
    """Return `runs/eval-judge-<judge>-<data>` in the working folder."""
    verdict = (settings or {}).get("verdict")
    names = [model, *([verdict] if verdict else []), Path(data).stem or data]
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") for name in names]
    return Path("runs") / "-".join(["eval-judge", *words])


def _stored_labels(folder: Path, count: int) -> list[VerdictLabel | None]:
    samples = judge_evaluation.read_settings(folder).samples
    return judge_evaluation.final_labels(judge_evaluation.read_verdicts(folder, count, samples))


def _check_same_data(folder: Path, labelled: list[LabelledCode]) -> None:
    data = judge_evaluation.read_settings(folder).data
    if data.digest != judge_evaluation.digest_of(labelled):
        raise RecipeError(
            f"--against: {folder} was measured on other code ({data.source}, {data.n} samples); "
            "give the same --data and --limit"
        )
