"""`eval judge`: from names and options to one or two measured judges."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json, LabelledCode
from seccoderx_lite.judge.loading import load_judge
from seccoderx_lite.run import files as folder_files
from seccoderx_lite.run.progress import Progress, no_progress
from seccoderx_lite.stages import judge_evaluation


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
) -> tuple[Path, dict[str, Json]]:
    """Measure a judge, with `against` another one beside it; return the folder and the result.

    `against` is a judge's name as in `judge_loading`, or the folder of an earlier evaluation of the
    same data. `settings` are fields of `JudgeRecipe` for both judges.

    Raises:
        SeccoderxError: a judge or the data cannot be had, or the folder is of another evaluation.
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
    result = measure(load_judge(model, adapter=adapter, settings=settings), folder=folder)
    if against is None:
        return folder, result
    earlier = Path(against)
    if (earlier / judge_evaluation.ANSWERS).is_file() and not (earlier / "recipe.yaml").is_file():
        other, name = earlier, _checked(earlier, labelled)
    else:
        other, name = default_folder(against, data, settings), against
        measure(load_judge(against, settings=settings), folder=other)
    first, second = (
        judge_evaluation.final_verdicts(judge_evaluation.read_answers(place, len(labelled), count))
        for place, count in ((folder, samples), (other, _samples_of(other)))
    )
    result["comparison"] = judge_evaluation.compare(labelled, first, second, name, seed)
    folder_files.write_json(folder / judge_evaluation.EVALUATION, result)
    return folder, result


def default_folder(model: str, data: str, settings: Mapping[str, Json] | None = None) -> Path:
    """Return `runs/eval-judge-<judge>-<data>` in the working folder."""
    verdict = (settings or {}).get("verdict")
    names = [model, *([verdict] if verdict else []), Path(data).stem or data]
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") for name in names]
    return Path("runs") / "-".join(["eval-judge", *words])


def _samples_of(folder: Path) -> int:
    count: int = folder_files.read_json(folder / judge_evaluation.SETTINGS)["samples"]
    return count


def _checked(folder: Path, labelled: list[LabelledCode]) -> str:
    """The name of the judge of an earlier evaluation, if it was of the same data."""
    there = folder_files.read_json(folder / judge_evaluation.SETTINGS)
    if there["data"]["digest"] != judge_evaluation.digest_of(labelled):
        raise RecipeError(
            f"--against: {folder} was measured on other code ({there['data']['source']}, "
            f"{there['data']['n']} pieces); give the same --data and --limit"
        )
    return str(folder)
