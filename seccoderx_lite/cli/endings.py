"""How a command ends: how to resume it, and a reader of its output that has gone away."""

import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, cast


def resume_command(arguments: Sequence[str]) -> str:
    """Return the command that resumes an interrupted one: `--fresh` and `--stage` would start over.

    >>> resume_command(["train", "tiny", "--fresh", "-o", "seed=1", "--stage", "policy"])
    'seccoderx-lite train tiny -o seed=1'
    """
    return shlex.join(["seccoderx-lite", *_resuming(arguments)])


def _resuming(arguments: Sequence[str]) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument == "--stage":
            next(rest, None)
        elif argument != "--fresh" and not argument.startswith("--stage="):
            yield argument


def keep_traceback(error: BaseException) -> str:
    """Write an error's traceback to a new file and return its path."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="seccoderx-lite-", suffix=".log", delete=False, errors="backslashreplace"
    ) as file:
        traceback.print_exception(error, file=file)
    return file.name


class _ForgivingStream:
    """A text stream that drops what a closed pipe does not take, for example after `| head -1`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def forgive_closed_pipe() -> None:
    """Go on with the work when the reader of standard output or standard error has gone away."""
    sys.stdout = cast(TextIO, _ForgivingStream(sys.stdout))
    sys.stderr = cast(TextIO, _ForgivingStream(sys.stderr))
