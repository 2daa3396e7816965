"""The records of a scan: what it found, and what it could not review."""

from dataclasses import dataclass
from pathlib import Path

from seccoderx_lite.data.source_files import Skipped


@dataclass(frozen=True, slots=True)
class Finding:
    """A function that the judge calls vulnerable."""

    path: Path
    function: str
    start_line: int
    end_line: int
    cwe: str
    p_vulnerable: float | None
    """None from a judge that gives verdicts without a probability."""
    reasoning: str
    code: str

    @property
    def certainty(self) -> float:
        """The probability; 1 for a verdict without one."""
        return 1.0 if self.p_vulnerable is None else self.p_vulnerable


@dataclass(frozen=True, slots=True)
class ScanResult:
    judge: str
    findings: list[Finding]
    """In the order of files and lines."""
    skipped: list[Skipped]
    files: int
    functions: int
    verdicts: int
    unclear: int
    """Verdicts that are neither vulnerable nor safe."""
    unscored: int
    """Verdicts that the judge failed to give."""
