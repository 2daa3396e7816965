"""The option `--output` of `eval`: the results as a file that other tools read."""

from pathlib import Path

from seccoderx_lite.core.detection_scores import JudgeEvaluation
from seccoderx_lite.core.errors import RecipeError, RunFolderError
from seccoderx_lite.core.records import Json
from seccoderx_lite.core.scores import PHASES, Evaluation
from seccoderx_lite.reporting.lm_eval import code_results, judge_results
from seccoderx_lite.run import files
from seccoderx_lite.run.folder import RunFolder


def check_output(output: Path | None) -> None:
    """Find out before the work whether its result can be written.

    Raises:
        RecipeError: it cannot.
    """
    if output is None:
        return
    try:
        files.check_writable(output)
    except OSError as error:
        raise RecipeError(
            f"--output: {output} cannot be written: {error.strerror}; give another file"
        ) from error


def write_code_results(folder: Path, output: Path) -> list[Path]:
    """Write the results of each measured model; the most trained one gets the name `output`."""
    evaluation = files.read_record(folder / "evaluation.json", Evaluation)
    recipe = RunFolder.existing(folder).recipe
    phases = [phase for phase in PHASES if evaluation.phase(phase)]
    paths = [output.with_stem(f"{output.stem}-{phase}") for phase in phases[:-1]] + [output]
    for phase, path in zip(phases, paths, strict=True):
        _write(path, code_results(evaluation.phase(phase), recipe, phase))
    return paths


def write_judge_results(result: JudgeEvaluation, output: Path) -> None:
    """Write the results of a judge."""
    _write(output, judge_results(result))


def _write(path: Path, results: Json) -> None:
    try:
        files.write_json(path, results)
    except OSError as error:
        raise RunFolderError(
            f"--output: {path} could not be written: {error.strerror}; the results are in "
            "evaluation.json of the run folder"
        ) from error
