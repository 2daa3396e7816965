"""The command `scan`: write the report to standard output or to a file."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from seccoderx_lite.cli.progress_bar import ProgressBar
from seccoderx_lite.cli.results_file import check_output
from seccoderx_lite.core.errors import RecipeError, SeccoderxError
from seccoderx_lite.core.records import Json
from seccoderx_lite.judge.loading import LoadedJudge, load_judge
from seccoderx_lite.reporting.scan import FORMATS
from seccoderx_lite.run import files as folder_files
from seccoderx_lite.run.progress import note
from seccoderx_lite.stages.scan import scan


def run(
    paths: Sequence[Path],
    judge: str,
    *,
    cwe: Sequence[str] = (),
    form: str = "text",
    since: str | None = None,
    fail_on: float = 0.5,
    output: Path | None = None,
    settings: Mapping[str, Json] | None = None,
) -> int:
    """Scan, write the report, and return the exit code.

    1 if a finding reaches `fail_on`; otherwise 3 if the judge failed on some of the code, which may
    have findings; otherwise 0.

    Raises:
        RecipeError: an option is wrong, or there is nothing to scan.
        DataError: a path does not exist, a weakness is not a CWE id, or git does not know `since`.
        SeccoderxError: the judge cannot be loaded or gives no verdict; no report is written. Or the
            report could not be written; it is printed.
    """
    if form not in FORMATS:
        raise RecipeError(f"--format: must be one of {', '.join(FORMATS)} (got {form})")
    if math.isnan(fail_on):
        raise RecipeError("--fail-on: must be a number (got nan)")
    check_output(output)
    with ProgressBar() as progress:

        def load() -> LoadedJudge:
            note(progress, "scan", f"loading the judge {judge}")
            return load_judge(judge, settings=settings)

        result = scan(
            paths, load, cwe=cwe, since=since, threshold=min(0.5, fail_on), progress=progress
        )
    _write(FORMATS[form](result) + "\n", output)
    if any(finding.certainty >= fail_on for finding in result.findings):
        return 1
    return 3 if result.unscored else 0


def _write(report: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(report)
        return
    try:
        folder_files.write_text(output, report)
    except BrokenPipeError:
        return  # whoever reads the pipe has read enough
    except OSError as error:
        sys.stdout.write(report)
        raise SeccoderxError(
            f"--output: {output} could not be written: {error.strerror}; the report is printed to "
            "standard output; give another file"
        ) from error
