"""What an evaluation of code measured, as records of evaluation.json.

How the numbers are computed from test results is in `evaluation.metrics`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from seccoderx_lite.core.records import Json

Interval: TypeAlias = tuple[float, float]
"""Lower and upper bound."""

Phase = Literal["before", "warm_start", "after"]
"""Before is the base, warm_start the base with the adapter that GRPO starts from, after the base
with the policy adapter."""
PHASES: tuple[Phase, ...] = ("before", "warm_start", "after")

CodeMetric = Literal["functional", "secure", "esr", "func_sec"]
CODE_METRICS: tuple[CodeMetric, ...] = ("functional", "secure", "esr", "func_sec")


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Scores over some tasks: means over the samples of a task, then over tasks."""

    functional: float | None = None
    """Mean share of functional tests passed; None when nothing was scored."""
    secure: float | None = None
    """Share of samples that pass all security tests; None for benign tasks, like the next two."""
    esr: float | None = None
    """Mean of functional share x secure."""
    func_sec: float | None = None
    """Share of samples that pass all tests of both kinds."""
    n: int = 0
    """Tasks with at least one scored sample."""
    unscored: int = 0
    """Samples that could not be scored because of an internal error; excluded from every mean."""
    interval_95: Mapping[CodeMetric, Interval] = field(default_factory=dict)
    """Per metric, by bootstrap over tasks; empty with fewer than 2 tasks."""

    def value(self, metric: CodeMetric) -> float | None:
        value: float | None = getattr(self, metric)
        return value


@dataclass(frozen=True, slots=True)
class CodeScores(GroupScores):
    """Scores over all tasks of a suite, in total and by group."""

    n_samples: int = 0
    """Scored samples."""
    at_k: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """`func@k`, `sec@k` and `func_sec@k` by k, see `evaluation.metrics.metrics_at_k`."""
    per_cwe: Mapping[str, GroupScores] = field(default_factory=dict)
    """The same per weakness; a task with several weaknesses counts once in each."""
    per_language: Mapping[str, GroupScores] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SuiteResult(CodeScores):
    """One suite in one phase: scores of the sampled completions."""

    statuses: Mapping[str, int] = field(default_factory=dict)
    """How many completions ended in which way, such as passed, failed or timeout."""
    forms: Mapping[str, int] = field(default_factory=dict)
    """Where the code of how many completions was: in a closed block (`block`), an unclosed one
    (`unclosed`), without a fence (`bare`), nowhere (`none`), or cut off (`unfinished`)."""
    greedy: CodeScores | None = None
    """Scores of the greedy completions; None where there are none."""

    def form_share(self, *forms: str) -> float:
        """Return the share of completions whose code was in one of these forms; 0 if unknown."""
        return sum(self.forms.get(form, 0) for form in forms) / max(sum(self.forms.values()), 1)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much a metric changed between two measurements of the same tasks."""

    mean: float
    """After minus before, over tasks measured both times."""
    interval_95: Interval | None
    """By bootstrap over the differences; None with fewer than 2 tasks."""
    n: int
    left_out: int = 0
    """Tasks without a scored sample in one of the two measurements."""

    @property
    def verdict(self) -> Literal["better", "worse", "no change"]:
        """The direction of the change; no change without an interval, or with 0 in it."""
        low, high = self.interval_95 or (0.0, 0.0)
        return "better" if low > 0 else "worse" if high < 0 else "no change"


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's exact test on pass or fail of the same tasks before and after."""

    gained: int
    """Tasks that fail before and pass after."""
    lost: int
    """Tasks that pass before and fail after."""
    p: float
    """Two-sided: how likely a split at least as uneven is if neither is better."""
    n: int
    """Tasks with a result both times."""


@dataclass(frozen=True, slots=True)
class SuiteDifference:
    """After against before on one suite; None for what has no value in both phases."""

    functional: Difference | None = None
    secure: Difference | None = None
    esr: Difference | None = None
    func_sec: Difference | None = None
    mcnemar: McNemar | None = None
    """On strict func-sec of one completion per task."""

    @property
    def is_empty(self) -> bool:
        """True if nothing has a value in both phases."""
        return self == SuiteDifference()

    def change(self, metric: CodeMetric) -> Difference | None:
        value: Difference | None = getattr(self, metric)
        return value


GroupKind = Literal["suite", "weakness", "language"]


@dataclass(frozen=True, slots=True)
class GroupChange:
    """How a metric changed in one group of tasks through the training of the policy."""

    suite: str
    kind: GroupKind
    group: str
    """A suite, weakness (CWE) or language."""
    metric: CodeMetric
    before: float
    after: float
    difference: Difference
    p: float
    """Two-sided p-value of the difference, from random sign flips."""
    p_corrected: float = 1.0
    """The same corrected for all groups and metrics that were compared, by Holm's method."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The content of evaluation.json of a run, by suite."""

    before: Mapping[str, SuiteResult] = field(default_factory=dict)
    warm_start: Mapping[str, SuiteResult] = field(default_factory=dict)
    """Only in a run whose policy starts from an adapter, like the last two fields."""
    after: Mapping[str, SuiteResult] = field(default_factory=dict)
    difference: Mapping[str, SuiteDifference] = field(default_factory=dict)
    """After against before."""
    warm_start_difference: Mapping[str, SuiteDifference] = field(default_factory=dict)
    """Warm start against before."""
    alignment_difference: Mapping[str, SuiteDifference] = field(default_factory=dict)
    """After against warm start: what GRPO adds."""
    group_changes: tuple[GroupChange, ...] = ()
    """After against what GRPO starts from, by suite, weakness and language."""

    @property
    def worse(self) -> list[GroupChange]:
        """What got worse through the training of the policy, the largest fall first."""
        fallen = [change for change in self.group_changes if change.difference.verdict == "worse"]
        return sorted(fallen, key=lambda change: change.difference.mean)

    @property
    def suites(self) -> list[str]:
        """Names of all suites, in the order in which they were measured."""
        return list(dict.fromkeys([*self.before, *self.warm_start, *self.after]))

    @property
    def last(self) -> Mapping[str, SuiteResult]:
        """Return the results of the most trained model that was measured."""
        return self.after or self.warm_start or self.before

    def phase(self, phase: Phase) -> Mapping[str, SuiteResult]:
        """Return the results of a phase by suite."""
        results: Mapping[str, SuiteResult] = getattr(self, phase)
        return results

    def differences(self, suite: str) -> dict[str, "SuiteDifference"]:
        """Return what is known of a suite's differences, by the label that readers see."""
        known = {
            "warm start - before": self.warm_start_difference.get(suite),
            "after - warm start": self.alignment_difference.get(suite),
            "difference": self.difference.get(suite),
        }
        return {label: one for label, one in known.items() if one and not one.is_empty}

    @property
    def unanswered(self) -> int:
        """Completions that could not be generated, so that it is worth asking again."""
        return sum(result.statuses.get("failed_query", 0) for result in self._results())

    @property
    def has_scores(self) -> bool:
        """Whether anything could be scored."""
        return any(result.n for result in self._results())

    def _results(self) -> list[SuiteResult]:
        return [result for phase in PHASES for result in self.phase(phase).values()]

    def result(self, phase: Phase, suite: str) -> SuiteResult | None:
        """Return what was measured on a suite in a phase, None if nothing was."""
        return self.phase(phase).get(suite)

    def as_json(self) -> dict[str, Json]:
        """Return the content of evaluation.json, without what was not measured."""
        data = {name: value for name, value in asdict(self).items() if value}
        differences = [by_suite for name, by_suite in data.items() if name.endswith("difference")]
        for changes in (changes for by_suite in differences for changes in by_suite.values()):
            for name in [name for name, change in changes.items() if change is None]:
                del changes[name]
            for change in changes.values():
                change.pop("left_out", None)
        for group in data.get("group_changes", ()):
            del group["difference"]["left_out"]
        return data
