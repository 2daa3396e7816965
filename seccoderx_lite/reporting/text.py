"""An evaluation as lines of plain text; a difference always comes with its interval."""

from collections.abc import Iterator

from seccoderx_lite.core.scores import (
    PHASES,
    CodeMetric,
    Difference,
    Evaluation,
    GroupChange,
    Interval,
    SuiteDifference,
    SuiteResult,
)

METRICS: tuple[tuple[CodeMetric, str], ...] = (
    ("functional", "functional"),
    ("secure", "secure"),
    ("esr", "ESR"),
    ("func_sec", "func-sec"),
)
"""Metrics with the names that readers see."""


def describe_evaluation(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines of an evaluation: per suite its phases and the difference between them."""
    for suite in evaluation.suites:
        yield suite
        for phase in PHASES:
            if scores := evaluation.result(phase, suite):
                yield f"  {phase:<11}{_scores(scores)}"
        for label, difference in evaluation.differences(suite).items():
            if text := _difference(difference):
                yield f"  {label:<11}{' ' if len(label) > 10 else ''}{text}"
        for change in evaluation.worse:
            if change.suite == suite:
                yield f"  worse: {describe_change(change)}"
    if evaluation.worse:
        yield (
            f"worse: the 95% interval of the difference is below 0; p is corrected for the "
            f"{len(evaluation.group_changes)} comparisons made"
        )


def describe_change(change: GroupChange) -> str:
    """Return a change in one line.

    >>> fall = Difference(-0.25, (-0.4, -0.1), 9)
    >>> describe_change(GroupChange("s", "weakness", "CWE-89", "esr", 0.5, 0.25, fall, 0.01, 0.2))
    'CWE-89 ESR 0.500 -> 0.250, -0.250 [-0.400, -0.100], 9 tasks, p = 0.200'
    """
    return (
        f"{'all tasks' if change.kind == 'suite' else change.group} {dict(METRICS)[change.metric]} "
        f"{share(change.before)} -> {share(change.after)}, {signed(change.difference)}, "
        f"{change.difference.n} tasks, {p_value(change.p_corrected)}"
    )


def share(value: float | None, interval: Interval | None = None) -> str:
    """Return a share with its interval, "-" where it has no value.

    >>> share(0.5, (0.4, 0.6)), share(None)
    ('0.500 [0.400, 0.600]', '-')
    """
    if value is None:
        return "-"
    bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{value:.3f}{bounds}"


def signed(change: Difference | None) -> str:
    """Return a difference with its interval, "-" where it has no value.

    >>> signed(Difference(0.25, (0.1, 0.4), 9)), signed(Difference(-1.0, None, 1))
    ('+0.250 [+0.100, +0.400]', '-1.000 (too few tasks for an interval)')
    """
    if change is None:
        return "-"
    low_high = change.interval_95
    if low_high is None:
        return f"{change.mean:+.3f} (too few tasks for an interval)"
    return f"{change.mean:+.3f} [{low_high[0]:+.3f}, {low_high[1]:+.3f}]"


def p_value(p: float) -> str:
    """Return a p-value with three decimals, or that it is below 0.001.

    >>> p_value(0.0000001), p_value(0.0421)
    ('p < 0.001', 'p = 0.042')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _scores(scores: SuiteResult) -> str:
    parts = [
        f"{name} {share(value, scores.interval_95.get(metric))}"
        for metric, name in METRICS[:3]
        if (value := scores.value(metric)) is not None
    ]
    counts = f"{scores.n} tasks, {scores.n_samples} samples, {scores.unscored} unscored"
    if text := describe_forms(scores):
        counts += f"; {text}"
    return f"{', '.join(parts) or 'nothing could be scored'}  ({counts})"


def describe_forms(scores: SuiteResult) -> str:
    """Return the shares of completions without code in a closed block, or whose code cannot load.

    >>> forms, statuses = {"block": 6, "bare": 1, "none": 1}, {"load_error": 1, "passed": 7}
    >>> describe_forms(SuiteResult(forms=forms, statuses=statuses))
    'no fence 12.5%, no code 12.5%, raises when it is loaded 12.5%'
    """
    kinds = {
        "no fence": ("bare",),
        "fence not closed": ("unclosed",),
        "no code": ("none", "unfinished"),
    }
    shares = [(name, scores.form_share(*forms)) for name, forms in kinds.items()]
    broken, total = scores.statuses.get("load_error", 0), sum(scores.statuses.values())
    shares.append(("raises when it is loaded", broken / max(total, 1)))
    return ", ".join(f"{name} {share:.1%}" for name, share in shares if share)


def _difference(difference: SuiteDifference) -> str:
    parts = [
        f"{name} {signed(change)}"
        for metric, name in METRICS[:3]
        if (change := difference.change(metric))
    ]
    if test := difference.mcnemar:
        parts.append(
            f"func-sec: {test.gained} tasks gained, {test.lost} lost, McNemar {p_value(test.p)}"
        )
    return ", ".join(parts)
