"""How a command ends: how to resume it, and a reader of its output that has gone away."""

import errno
import os
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any, TextIO, cast

from seccoderx_lite.core.errors import RecipeError


def resume_command(arguments: Sequence[str]) -> str:
    """Return the command that resumes an interrupted one: `--fresh` would start over.

    >>> resume_command(["train", "tiny", "--fresh", "-o", "seed=1", "--stage", "policy"])
    'seccoderx-lite train tiny -o seed=1 --stage policy'
    """
    return shlex.join(["seccoderx-lite", *(word for word in arguments if word != "--fresh")])


_LONGEST_WORD = 200
_LONGEST_MESSAGE = 3000
_ADVICE = {
    errno.ENOSPC: "free disk space and repeat the command, which goes on where it ended",
    errno.EDQUOT: "free disk space and repeat the command, which goes on where it ended",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOMEM: "free memory and repeat the command",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
_CHECK = "check the path and its permissions"


def require_working_folder() -> None:
    """Check that the working folder, to which paths are relative, exists.

    Raises:
        RecipeError: it was deleted.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise RecipeError(
            "the working folder does not exist any more; change to one that does (cd)"
        ) from error


def describe_os_error(error: OSError) -> str:
    """Return what the system could not do, with which file, and what to do about it."""
    advice = _ADVICE.get(error.errno or 0, _CHECK)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    place = " and ".join(names) or "a file"
    return f"{place} cannot be read or written: {error.strerror}; {advice}"


def shortened(message: str) -> str:
    """Return a message without the middle of what is too long to read.

    >>> len(shortened("x" * 9000 + " is too long"))
    217
    """
    if len(message) <= _LONGEST_MESSAGE and not re.search(rf"\S{{{_LONGEST_WORD},}}", message):
        return message
    half = _LONGEST_WORD // 2
    text = re.sub(
        rf"\S{{{_LONGEST_WORD},}}", lambda word: f"{word[0][:half]}[...]{word[0][-half:]}", message
    )
    half = _LONGEST_MESSAGE // 2
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:half]}\n[...]\n{text[-half:]}"


def ended_with_another(error: Exception) -> bool:
    """Whether it is one of several processes and failed because another one did."""
    if "WORLD_SIZE" not in os.environ:
        return False
    from seccoderx_lite.models.distributed import is_loss_of_another

    return is_loss_of_another(error)


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
