"""The records of a scan: what it found, and what it could not review."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seccoderx_lite.core import cwe
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
    line: int
    """The line that the judge points at; if it points at none, the line of the signature."""
    columns: tuple[int, int]
    """First and last column of the code on that line, counted from 1, the last exclusive."""

    @property
    def certainty(self) -> float:
        """The probability; 1 for a verdict without one."""
        return 1.0 if self.p_vulnerable is None else self.p_vulnerable

    @property
    def severity(self) -> float:
        """How severe the weakness usually is, 0 to 10: see `cwe.severity`."""
        return cwe.severity(self.cwe)


@dataclass(frozen=True, slots=True)
class LineCount:
    """What happened to each line of the files; `judged` and `skipped` add up to `total`."""

    total: int
    judged: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Number of lines by the reason."""


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
    lines: LineCount
    passed_over: Mapping[str, int]
    """Number of files in the folders that are not part of the scan, by the reason."""
