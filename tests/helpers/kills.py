"""Commands that are killed at one exact moment: when a named function is called."""

import json
import os
import pkgutil
import signal
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from helpers import command_line


@dataclass(frozen=True)
class Moment:
    """A call that ends its process by SIGKILL, before or after its work."""

    call: str
    """Import path of the function."""
    argument: object = None
    """The call must have this positional argument; None for any call."""
    after: bool = False
    stage: str = ""
    steps: int = 0
    """Steps of `stage` that must be recorded by then."""

    def is_due(self, arguments: tuple[object, ...], run_folder: Path) -> bool:
        if self.argument is not None and self.argument not in arguments:
            return False
        return recorded_steps(run_folder).count(self.stage) >= self.steps


def recorded_steps(run_folder: Path) -> list[str]:
    """The stage of each recorded step; a line that is being written does not count."""
    file = run_folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line)["stage"] for line in lines if line.endswith("\n")]


def start(moment: Moment, run_folder: Path, *arguments: str, log: Path) -> BaseProcess:
    """Start a command that is killed at a moment of its run."""
    return command_line.start_function(_run_until, moment, run_folder, arguments, log)


def _run_until(moment: Moment, run_folder: Path, arguments: tuple[str, ...], log: Path) -> None:
    original = pkgutil.resolve_name(moment.call)

    def dying(*args, **kwargs):
        is_due = moment.is_due(args, run_folder)
        if is_due and not moment.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if is_due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with patch(moment.call, dying):
        command_line.run_logged(arguments, log)
