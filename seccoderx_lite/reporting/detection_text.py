"""The evaluation of a judge as text for a terminal."""

from collections.abc import Mapping, Sequence

from seccoderx_lite.core.detection_scores import (
    Comparison,
    DetectionMetric,
    DetectionScores,
    JudgeEvaluation,
    PairOutcome,
    PairScores,
    ProbabilityScores,
)
from seccoderx_lite.core.scores import Interval

_RATES: Mapping[DetectionMetric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1": "F1",
}
_PAIRS: Mapping[PairOutcome, str] = {
    "correct": "P-C  both sides right",
    "both_vulnerable": "P-V  both called vulnerable",
    "both_safe": "P-B  both called safe",
    "reversed": "P-R  both sides wrong",
    "unclear": "     a side unclear",
}


def render_evaluation(result: JudgeEvaluation) -> str:
    """Return tables of every score, each with its interval."""
    scores, name = result.detection, result.judge["name"]
    parts = [
        f"{name} on {result.data.source}",
        _counts(result),
        _rates(scores),
        _confusion(scores.confusion),
    ]
    for title, groups in (("language", scores.per_language), ("weakness", scores.per_cwe)):
        if len(groups) > 1:
            parts.append(_groups(title, groups))
    if result.pairs:
        parts.append(_pairs(result.pairs))
    if result.probabilities:
        parts.append(_probabilities(result.probabilities))
    if result.comparison:
        parts.append(_comparison(result.comparison, name))
    return "\n\n".join(parts)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the first to the left and the others to the right.

    >>> print(text_table([["a", "1"], ["bcd", "10"]]))
    a     1
    bcd  10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: Interval | None, sign: str = "") -> str:
    return "" if bounds is None else f"[{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]"


def _rate(scores: DetectionScores, metric: DetectionMetric) -> str:
    return _number(getattr(scores, metric))


def _counts(result: JudgeEvaluation) -> str:
    scores = result.detection
    unread = f"; {result.unread} of them too long to read" if result.unread else ""
    counts = (
        f"{scores.n} verdicts, {scores.unclear} unclear (counted as wrong{unread}), "
        f"{scores.unscored} unscored (left out)"
    )
    return "\n".join([counts, *(f"  {count} x {why}" for why, count in result.errors.items())])


def _rates(scores: DetectionScores) -> str:
    rows = [["", "value", "95% interval"]]
    for metric, title in _RATES.items():
        rows.append([title, _rate(scores, metric), _interval(scores.interval_95.get(metric))])
    return text_table(rows)


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    verdicts = ("vulnerable", "safe", "unclear")
    rows = [["truth \\ verdict", *verdicts]]
    rows += [[truth, *(str(row[v]) for v in verdicts)] for truth, row in confusion.items()]
    return text_table(rows)


def _groups(title: str, groups: Mapping[str, DetectionScores]) -> str:
    rows = [[title, "n", "accuracy", "95% interval", "recall", "specificity", "F1", "unclear"]]
    for name, scores in groups.items():
        rows.append(
            [
                name,
                str(scores.n),
                _number(scores.accuracy),
                _interval(scores.interval_95.get("accuracy")),
                _number(scores.recall),
                _number(scores.specificity),
                _number(scores.f1),
                str(scores.unclear),
            ]
        )
    return text_table(rows)


def _pairs(pairs: PairScores) -> str:
    rows = [[f"{pairs.n} pairs, {pairs.left_out} left out", "share", "95% interval"]]
    for outcome, title in _PAIRS.items():
        count: int = getattr(pairs, outcome)
        rows.append([title, _number(count / pairs.n), _interval(pairs.interval_95[outcome])])
    return text_table(rows)


def _probabilities(scores: ProbabilityScores) -> str:
    without = f", {scores.without} verdicts without a probability" if scores.without else ""
    head = [
        ["ROC AUC", _number(scores.roc_auc), _interval(scores.interval_95.get("roc_auc"))],
        ["calibration error (ECE)", _number(scores.expected_calibration_error), ""],
    ]
    rows = [["probability", "n", "mean", "vulnerable", "95% interval"]]
    for each in scores.bins:
        span = f"({each.low:.1f}, {each.high:.1f}]"
        numbers = [_number(each.mean_probability), _number(each.vulnerable_share)]
        rows.append([span, str(each.n), *numbers, _interval(each.interval_95)])
    return (
        f"probabilities of {scores.n} verdicts{without}\n{text_table(head)}\n\n{text_table(rows)}"
    )


def _comparison(comparison: Comparison, name: str) -> str:
    rows = [[f"{name} minus {comparison.against}", "difference", "95% interval"]]
    for metric, change in comparison.differences.items():
        rows.append([_RATES[metric], f"{change.mean:+.3f}", _interval(change.interval_95, "+")])
    note = f"on the {comparison.n} samples that both judged, {comparison.left_out} left out"
    return f"{text_table(rows)}\n{note}"
