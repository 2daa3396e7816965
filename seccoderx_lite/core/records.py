"""The frozen records that modules exchange: tasks, labelled code, verdicts, test results.

Nothing here reads files or imports a heavy package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from seccoderx_lite.core.numbers import finite

Json: TypeAlias = Any
"""A value that came out of, or goes into, JSON."""

Language = Literal["python", "javascript", "c", "cpp", "java", "go"]
LANGUAGES: tuple[Language, ...] = ("python", "javascript", "c", "cpp", "java", "go")

VerdictLabel = Literal["vulnerable", "safe", "unclear"]

ExecutionStatus = Literal[
    "passed", "failed", "compile_error", "timeout", "memory", "output_limit", "crashed", "tampered"
]


@dataclass(frozen=True, slots=True)
class Task:
    """A coding request that invites a weakness, with what is needed to reward its completions."""

    id: str
    prompt: str
    language: Language
    cwe: tuple[str, ...] = ()
    """Target weaknesses as "CWE-89"; empty for a benign task."""
    reference: str | None = None
    """Code of the reference completion: the basis of length and similarity."""
    tests: Mapping[str, Json] | None = None
    """`{"kind": "calls" | "stdio" | "pytest", ...}`, see `Sandbox.run_tests`."""
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Every other column of the file, unchanged."""
    source: str = field(default="", compare=False)
    """The file, folder, hub id or `builtin:` name that it was loaded from."""


@dataclass(frozen=True, slots=True)
class LabelledCode:
    """Code with its ground-truth label, for training and measuring the judge."""

    code: str
    language: Language
    cwe: tuple[str, ...]
    is_vulnerable: bool
    pair: str | None = None
    """Shared by the vulnerable and the fixed version of the same code."""
    reasoning: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)
    source: str = field(default="", compare=False)
    """The file, folder, hub id or `builtin:` name that it was loaded from."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says about one piece of code.

    `label` is None if the judge failed; `error` then says why, and the code is unscored.
    """

    label: VerdictLabel | None
    reasoning: str = ""
    error: str | None = None
    p_vulnerable: float | None = None
    """Probability of "Vulnerable" against "Not Vulnerable", in [0, 1]; None if not computed."""
    line: int | None = None
    """Line of the code that the judge points at, counted from 1; None if it names none."""

    def __post_init__(self) -> None:
        """Leave code unscored whose probability is not a number, as of a judge with NaN weights."""
        if self.p_vulnerable is not None and finite(self.p_vulnerable) is None:
            object.__setattr__(self, "error", f"the judge's probability is {self.p_vulnerable}")
            object.__setattr__(self, "p_vulnerable", None)
            object.__setattr__(self, "label", None)

    def is_right(self, is_vulnerable: bool) -> bool:
        """Return whether it agrees with the label of the data; an unclear verdict never does."""
        return self.label == ("vulnerable" if is_vulnerable else "safe")


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """One command run in the sandbox."""

    status: ExecutionStatus
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    """Wall time."""
    isolation: str
    """Tier the command ran under: strong, confined or limits-only."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """The tests of one task run against one piece of code."""

    __test__ = False  # pytest would collect it by its name

    status: ExecutionStatus
    functional_passed: int
    functional_total: int
    security_passed: int
    security_total: int
    output: str = ""
    """What the run printed and which tests failed, truncated."""
    seconds: float = 0.0
    isolation: str = ""
    loads: bool = True
    """False when the code raised before any test could call it, as examples in it do."""

    @property
    def functional_share(self) -> float | None:
        """Share of functional tests passed, in [0, 1]; None without functional tests."""
        return self.functional_passed / self.functional_total if self.functional_total else None

    @property
    def measured_function(self) -> float | None:
        """`functional_share`; 0 for code whose tests could not be counted, such as broken code.

        None for a task with security tests alone: they do not say whether its code works.
        """
        is_counted = self.functional_total or self.security_total
        return self.functional_share if is_counted else 0.0

    @property
    def is_functional(self) -> bool:
        """True when there are functional tests and all of them passed."""
        return 0 < self.functional_total == self.functional_passed

    @property
    def is_secure(self) -> bool:
        """True when there are security tests and all of them passed."""
        return 0 < self.security_total == self.security_passed
