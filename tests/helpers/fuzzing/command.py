"""Run the command line inside this process, and judge how it ended."""

import io
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from seccoderx_lite.cli import app

SECONDS = 60
"""A command that is not finished by then hangs."""
LONGEST = 4000
"""Characters of a message that a person still reads."""
CODES = (0, 1, 2, 3, 130)
_ADVICE = re.compile(
    r"\b(use|give|set|remove|add|delete|check|choose|lower|raise|run|train|must|needs?|try|write|"
    r"correct|rename|repeat|replace|change|keep|leave|install|see|did you mean|is required|measure|"
    r"save|download|convert|end|free|shorten|--help)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Case:
    """A command with bad input."""

    kind: str
    name: str
    arguments: list[str]
    things: tuple[str, ...] = ()
    """The message must name one of these; () for any."""
    must_fail: bool = False
    prepare: Callable[[Path], None] = lambda folder: None
    """Changes the copy of the world that the command works in."""


@dataclass(slots=True)
class Outcome:
    code: int | None = None
    out: str = ""
    err: str = ""
    faults: list[str] = field(default_factory=list)


class Hang(BaseException):
    pass


def _ring(number: int, frame: object) -> None:
    raise Hang


def run(case: Case) -> Outcome:
    """Run one command in the working folder."""
    outcome = Outcome()
    out, err = _stream("strict"), _stream("backslashreplace")
    before = sys.argv, sys.stdout, sys.stderr
    former = signal.signal(signal.SIGALRM, _ring)
    sys.argv = ["seccoderx-lite", *case.arguments]
    sys.stdout, sys.stderr = out, err
    app._is_scan = False
    try:
        signal.alarm(SECONDS)
        app.main()
        outcome.code = 0
    except SystemExit as end:
        outcome.code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except Hang:
        outcome.faults.append(f"hangs: not finished after {SECONDS} s")
    except BaseException as error:
        outcome.faults.append(f"escapes main: {type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        sys.argv, sys.stdout, sys.stderr = before
    outcome.out, outcome.err = _text(out), _text(err)
    outcome.faults += _faults(case, outcome)
    return outcome


def _stream(errors: str) -> io.TextIOWrapper:
    """Return a stream that refuses the characters which those of a process refuse."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode("utf-8", "replace")


def _faults(case: Case, outcome: Outcome) -> list[str]:
    if outcome.code is None:
        return []
    faults = []
    if outcome.code not in CODES:
        faults.append(f"exit code {outcome.code}")
    if "Traceback (most recent call last)" in outcome.out + outcome.err:
        faults.append("a traceback")
    if outcome.code == 0:
        return [*faults, "bad input is accepted"] if case.must_fail else faults
    message = (re.split(r"^error: ", outcome.err, flags=re.MULTILINE) or [""])[-1]
    if message != outcome.err:
        message = f"error: {message}"
    if "internal error" in message:
        faults.append("an internal error")
    elif outcome.code == 1 and case.arguments[0] == "scan":
        return faults  # findings
    elif "error:" not in message and "Error" not in message:
        return faults if outcome.out else [*faults, "no message"]
    if len(message) > LONGEST:
        faults.append(f"a message of {len(message)} characters")
    if case.things and not any(thing in message for thing in case.things):
        faults.append(f"does not name {' or '.join(case.things)}")
    if not _ADVICE.search(message):
        faults.append("names no next step")
    return faults
