"""The command `scan`: write the report to standard output or to a file."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from seccoderx_lite.cli.progress_bar import ProgressBar
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json
from seccoderx_lite.judge.loading import load_judge
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
        SeccoderxError: the judge cannot be loaded or a path not read; no report is written.
    """
    if form not in FORMATS:
        raise RecipeError(f"--format: must be one of {', '.join(FORMATS)} (got {form})")
    with ProgressBar() as progress:
        note(progress, "scan", f"loading the judge {judge}")
        loaded = load_judge(judge, settings=settings)
        result = scan(
            paths, loaded, cwe=cwe, since=since, threshold=min(0.5, fail_on), progress=progress
        )
    report = FORMATS[form](result) + "\n"
    if output is None:
        sys.stdout.write(report)
    else:
        folder_files.write_text(output, report)
    if any(finding.certainty >= fail_on for finding in result.findings):
        return 1
    return 3 if result.unscored else 0
