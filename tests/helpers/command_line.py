"""The command line without a new interpreter: to import torch and TRL takes 6 seconds of one."""

import contextlib
import io
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from seccoderx_lite.cli import app

_ready = multiprocessing.get_context("forkserver")
_ready.set_forkserver_preload(
    ["bitsandbytes", "trl.trainer.grpo_trainer", "trl.trainer.sft_trainer"]
)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, cwd: Path | None = None) -> Done:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["seccoderx-lite", *arguments]),
        _logging_as_before(),
    ):
        try:
            app.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _logging_as_before() -> Iterator[None]:
    root, package = logging.getLogger(), logging.getLogger("seccoderx_lite")
    handlers, levels = root.handlers, (root.level, package.level)
    root.handlers = []
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(levels[0])
        package.setLevel(levels[1])


def start(*arguments: str, log: Path) -> BaseProcess:
    """Start a command in a process of its own, which has imported the libraries already."""
    return start_function(run_logged, arguments, log)


def start_function(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Call a function in a process of its own, which has imported the libraries already."""
    process = _ready.Process(target=function, args=arguments)
    process.start()
    return process


def run_logged(arguments: tuple[str, ...], log: Path) -> None:
    """Run a command in this process, with its output in a file."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["seccoderx-lite", *arguments]
    app.main()
