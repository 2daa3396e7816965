"""CodeShield, the maintained package of CyberSecEval's insecure-code detector."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.records import Json

SCAN_BATCH = 16
"""Samples per detector process."""
SCAN_SECONDS = 60.0
"""Wall time per sample; a batch gets the sum."""
_WORKER = "seccoderx_lite.judge.codeshield_worker"


@dataclass(frozen=True, slots=True)
class Issue:
    """A weakness that the detector found."""

    cwe: str
    line: int
    description: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What the detector found in one sample, or why it could not scan it."""

    issues: tuple[Issue, ...] = ()
    error: str | None = None


class CodeShield:
    """The detector, in separate processes."""

    def __init__(self) -> None:
        """Check that both its analysers find known weaknesses.

        Raises:
            SandboxError: the package is missing, or misses a known weakness.
        """
        if importlib.util.find_spec("codeshield") is None:
            raise SandboxError(
                f"the package codeshield is missing; {install_command('codeshield')}"
            )
        works = self._ask(["canaries"], "", 4 * SCAN_SECONDS)
        if works != [True, True]:
            raise SandboxError(
                "CodeShield must find known weaknesses (found by semgrep and by "
                f"regular expressions: {works}); reinstall codeshield and semgrep"
            )
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def scan(self, items: Sequence[tuple[str, str]]) -> list[Scan]:
        """Return the scan of each (language, code), in order, using all cores."""
        batches = [items[start : start + SCAN_BATCH] for start in range(0, len(items), SCAN_BATCH)]
        return [scan for batch in self._threads.map(self._scan, batches) for scan in batch]

    def _scan(self, batch: Sequence[tuple[str, str]]) -> list[Scan]:
        try:
            found = self._ask([], json.dumps(list(batch)), SCAN_SECONDS * len(batch))
        except SandboxError as error:
            if len(batch) == 1:
                return [Scan(error=str(error))]
            return [scan for item in batch for scan in self._scan([item])]
        return [_read_scan(one) for one in found]

    def _ask(self, arguments: Sequence[str], text: str, seconds: float) -> Json:
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "PYTHONPATH": root, "SEMGREP_SEND_METRICS": "off"}
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = subprocess.run(
                    [sys.executable, "-m", _WORKER, *arguments],
                    input=text,
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=seconds,
                    check=True,
                )
                return json.loads(done.stdout)
            except subprocess.TimeoutExpired as error:
                raise SandboxError(f"the detector took over {seconds:.0f} s") from error
            except subprocess.CalledProcessError as error:
                raise SandboxError(f"the detector failed: {error.stderr[-300:]}") from error
            except ValueError as error:
                raise SandboxError(f"the detector's answer cannot be read: {error}") from error


def _read_scan(data: Json) -> Scan:
    issues = [
        Issue(each["cwe"], each["line"], each["description"]) for each in data.get("issues", ())
    ]
    return Scan(tuple(issues), data.get("error"))
