"""Jobs as they go to a supervisor: JSON with the contents of files in base64."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from seccoderx_lite.sandbox.limits import Limits

Ask = Callable[[Mapping[str, Any], float], dict[str, Any]]
"""Runs one job within some seconds and returns the supervisor's answer."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a job, started in the job's working folder."""

    words: Sequence[str]
    limits: Limits
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Written into the working folder before the command starts."""
    environment: Mapping[str, str] = field(default_factory=dict)
    reserves_memory: bool = False
    """Bound the data segment, not the address space: Node, Java and Go reserve gigabytes."""
    is_case: bool = False
    """Run in an emptied working folder, and go on with the next command if this one fails."""


def exec_job(
    commands: Sequence[Command],
    files: Mapping[str, bytes] | None = None,
    collect: Sequence[str] = (),
    budget_s: float | None = None,
) -> dict[str, Any]:
    """A job that runs commands over `files`, and returns the files that match `collect`."""
    job: dict[str, Any] = {
        "kind": "exec",
        "files": _encode(files or {}),
        "steps": [_step(command) for command in commands],
        "collect": list(collect),
    }
    return job if budget_s is None else {**job, "budget_s": budget_s}


def _step(command: Command) -> dict[str, Any]:
    return {
        "command": list(command.words),
        "limits": asdict(command.limits),
        "stdin": base64.b64encode(command.stdin).decode(),
        "files": _encode(command.files),
        "env": dict(command.environment),
        "data_only": command.reserves_memory,
        "is_case": command.is_case,
    }


def _encode(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def to_bytes(content: str | bytes) -> bytes:
    """Text as UTF-8; lone surrogates, which models do write, are kept."""
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
