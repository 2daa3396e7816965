"""What a scan found, as records."""

from dataclasses import dataclass, field
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
    """None from a judge that only gives verdicts."""
    reasoning: str
    code: str

    @property
    def certainty(self) -> float:
        """The probability, or 1 where there is none but a verdict."""
        return 1.0 if self.p_vulnerable is None else self.p_vulnerable


@dataclass
class ScanResult:
    """What a scan found, and what it could not look at."""

    judge: str
    findings: list[Finding] = field(default_factory=list)
    """In the order of files and lines."""
    skipped: list[Skipped] = field(default_factory=list)
    files: int = 0
    functions: int = 0
    verdicts: int = 0
    unclear: int = 0
    """Verdicts that were neither."""
    unscored: int = 0
    """Verdicts that the judge failed to give."""
