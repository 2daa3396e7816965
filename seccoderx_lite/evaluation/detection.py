"""How well a judge tells vulnerable code from safe code; pure arithmetic.

The positive class is vulnerable code. An unclear verdict counts as wrong; a verdict of None (the
judge could not be run) is excluded from every rate and counted. Shares get Wilson intervals, other
rates a bootstrap over pairs. Probabilities are in `calibration`, scores of completions in
`metrics`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from seccoderx_lite.core import cwe
from seccoderx_lite.core.detection_scores import (
    PAIR_OUTCOMES,
    Comparison,
    DetectionMetric,
    DetectionScores,
    PairOutcome,
    PairScores,
    RateDifference,
)
from seccoderx_lite.core.numbers import wilson_interval
from seccoderx_lite.core.records import LabelledCode, VerdictLabel
from seccoderx_lite.evaluation.intervals import Floats, bootstrap_counts

Verdicts: TypeAlias = Sequence[VerdictLabel | None]


def majority(verdicts: Verdicts) -> VerdictLabel | None:
    """Return the verdict that most clear verdicts agree on; a tie is "safe", as in SecCoderX.

    Unscored verdicts (None) do not vote; if all are unscored, so is the result.

    >>> majority(["vulnerable", "unclear", "vulnerable", "safe"])
    'vulnerable'
    >>> majority(["vulnerable", "safe"]), majority(["unclear", None]), majority([None])
    ('safe', 'unclear', None)
    """
    counts = Counter(verdicts)
    if counts["vulnerable"] == counts["safe"] == 0:
        return "unclear" if counts["unclear"] else None
    return "vulnerable" if counts["vulnerable"] > counts["safe"] else "safe"


def score_detection(
    labelled: Sequence[LabelledCode], verdicts: Verdicts, seed: int = 0
) -> DetectionScores:
    """Return how well verdicts agree with the truth, as SecCoderX's `vulnerability_evaluator.py`.

    Unclear counts as the opposite of the truth. Departures: a ratio of 0 to 0 is None, not 0, and
    internal errors are excluded and counted. `seed` seeds the bootstrap.

    Raises:
        ValueError: the numbers of verdicts and samples differ.

    >>> code = [LabelledCode("", "c", (), truth) for truth in (True, True, True, False, False)]
    >>> verdicts = ["vulnerable", "vulnerable", "unclear", "safe", "vulnerable"]
    >>> scores = score_detection(code, verdicts)
    >>> scores.accuracy, scores.recall == scores.precision == 2 / 3, scores.unclear
    (0.6, True, 1)
    >>> round(scores.balanced_accuracy, 4)  # (2/3 + 1/2) / 2
    0.5833
    """
    judged = _judged(labelled, verdicts)
    languages = sorted({code.language for code in labelled})
    weaknesses = cwe.in_order(code.cwe for code in labelled)
    return _score(
        judged,
        seed,
        {name: _score([j for j in judged if j[0].language == name], seed) for name in languages},
        {name: _score([j for j in judged if name in j[0].cwe], seed) for name in weaknesses},
    )


_Judged: TypeAlias = tuple[LabelledCode, VerdictLabel | None]


def _judged(labelled: Sequence[LabelledCode], verdicts: Verdicts) -> list[_Judged]:
    if len(labelled) != len(verdicts):
        raise ValueError(
            "needs one verdict per sample "
            f"(got {len(labelled)} samples and {len(verdicts)} verdicts)"
        )
    return list(zip(labelled, verdicts, strict=True))


def _score(
    judged: Sequence[_Judged],
    seed: int,
    per_language: Mapping[str, DetectionScores] | None = None,
    per_cwe: Mapping[str, DetectionScores] | None = None,
) -> DetectionScores:
    counts = Counter((code.is_vulnerable, verdict) for code, verdict in judged)
    tp, fn, fp, tn = (sum(column) for column in zip((0, 0, 0, 0), *_clusters(judged), strict=True))
    n = tp + fn + fp + tn
    shares: dict[DetectionMetric, tuple[int, int]] = {
        "accuracy": (tp + tn, n),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
    }
    rates = {name: part / whole if whole else None for name, (part, whole) in shares.items()}
    recall, specificity = rates["recall"], rates["specificity"]
    balanced = None if recall is None or specificity is None else (recall + specificity) / 2
    intervals = {name: wilson_interval(*share) for name, share in shares.items() if share[1]}
    for name in ("f1", "balanced_accuracy"):
        if interval := bootstrap_counts(_clusters(judged), RATES[name], seed):
            intervals[name] = interval
    return DetectionScores(
        accuracy=rates["accuracy"],
        precision=rates["precision"],
        recall=recall,
        specificity=specificity,
        f1=2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
        balanced_accuracy=balanced,
        n=n,
        unclear=counts[True, "unclear"] + counts[False, "unclear"],
        unscored=len(judged) - n,
        confusion={
            name: {verdict: counts[truth, verdict] for verdict in ("vulnerable", "safe", "unclear")}
            for name, truth in (("vulnerable", True), ("safe", False))
        },
        interval_95=intervals,
        per_language=per_language or {},
        per_cwe=per_cwe or {},
    )


def _cell(code: LabelledCode, verdict: VerdictLabel) -> tuple[int, int, int, int]:
    """One verdict as counts: true positive, false negative, false positive, true negative."""
    if code.is_vulnerable:
        return (1, 0, 0, 0) if verdict == "vulnerable" else (0, 1, 0, 0)
    return (0, 0, 0, 1) if verdict == "safe" else (0, 0, 1, 0)


def _clusters(judged: Sequence[_Judged]) -> list[tuple[int, ...]]:
    """Counts per pair, and per sample that is in no pair."""
    groups: dict[str | int, list[tuple[int, int, int, int]]] = {}
    for number, (code, verdict) in enumerate(judged):
        if verdict is not None:
            groups.setdefault(code.pair or number, []).append(_cell(code, verdict))
    return [tuple(sum(column) for column in zip(*cells, strict=True)) for cells in groups.values()]


def _f1(sums: Floats) -> Floats:
    tp, fn, fp, _ = sums.T
    return _divide(2 * tp, 2 * tp + fp + fn)


def _balanced_accuracy(sums: Floats) -> Floats:
    tp, fn, fp, tn = sums.T
    return (_divide(tp, tp + fn) + _divide(tn, tn + fp)) / 2


def _accuracy(sums: Floats) -> Floats:
    return _divide(sums[:, 0] + sums[:, 3], sums.sum(axis=1))


RATES: dict[DetectionMetric, Callable[[Floats], Floats]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "balanced_accuracy": _balanced_accuracy,
}
"""Rates of counts of shape (N, 4), in the order of `_cell`; NaN where undefined."""


def _divide(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def score_pairs(labelled: Sequence[LabelledCode], verdicts: Verdicts) -> PairScores:
    """Return the pairwise scores of PrimeVul (arXiv 2403.18624, section 4.1).

    Departure: PrimeVul's classifiers have no unclear verdicts; here such pairs are a fifth outcome.

    Raises:
        ValueError: the numbers of verdicts and samples differ.

    >>> sides = [(True, "a"), (False, "a"), (True, "b"), (False, "b")]
    >>> code = [LabelledCode("", "c", (), truth, pair=pair) for truth, pair in sides]
    >>> scores = score_pairs(code, ["vulnerable", "safe", "safe", "vulnerable"])
    >>> scores.correct, scores.reversed, scores.n
    (1, 1, 2)
    """
    groups: dict[str, list[_Judged]] = {}
    for code, verdict in _judged(labelled, verdicts):
        if code.pair is not None:
            groups.setdefault(code.pair, []).append((code, verdict))
    counts = Counter(map(_pair_outcome, groups.values()))
    n = sum(counts[outcome] for outcome in PAIR_OUTCOMES)
    return PairScores(
        **{outcome: counts[outcome] for outcome in PAIR_OUTCOMES},
        n=n,
        left_out=counts[None],
        interval_95={o: wilson_interval(counts[o], n) for o in PAIR_OUTCOMES} if n else {},
    )


_PAIR_OUTCOMES: Mapping[tuple[VerdictLabel, VerdictLabel], PairOutcome] = {
    ("vulnerable", "safe"): "correct",
    ("vulnerable", "vulnerable"): "both_vulnerable",
    ("safe", "safe"): "both_safe",
    ("safe", "vulnerable"): "reversed",
}
"""By the verdicts on the vulnerable side and on the fixed one."""


def _pair_outcome(sides: Sequence[_Judged]) -> PairOutcome | None:
    """None for a group that is not a pair, or has an unscored side."""
    by_truth = {code.is_vulnerable: verdict for code, verdict in sides}
    vulnerable, fixed = by_truth.get(True), by_truth.get(False)
    if len(sides) != 2 or vulnerable is None or fixed is None:
        return None
    return _PAIR_OUTCOMES.get((vulnerable, fixed), "unclear")


def compare_detection(
    labelled: Sequence[LabelledCode],
    first: Verdicts,
    second: Verdicts,
    seed: int = 0,
    against: str = "the second judge",
) -> Comparison:
    """Return the difference between two judges by a paired bootstrap over pairs.

    Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13: both judges are scored on
    the same resamples, so what is hard for both cancels out. `against` names the second judge.

    Raises:
        ValueError: the numbers of verdicts and samples differ.

    >>> code = [LabelledCode("", "c", (), i % 2 == 0) for i in range(40)]
    >>> right = ["vulnerable", "safe"] * 20
    >>> comparison = compare_detection(code, right, ["vulnerable"] * 40)
    >>> comparison.differences["accuracy"].mean, comparison.n
    (0.5, 40)
    >>> comparison.differences["accuracy"].interval_95[0] > 0
    True
    """
    sides = [_judged(labelled, first), _judged(labelled, second)]
    both = [(a, b) for a, b in zip(*sides, strict=True) if a[1] is not None and b[1] is not None]
    clusters = [
        (*one, *other)
        for one, other in zip(
            _clusters([a for a, _ in both]), _clusters([b for _, b in both]), strict=True
        )
    ]
    sums = np.array([[sum(column) for column in zip(*clusters, strict=True)]], dtype=np.float64)
    differences: dict[DetectionMetric, RateDifference] = {}
    for name, rate in RATES.items() if clusters else ():

        def gap(s: Floats, rate: Callable[[Floats], Floats] = rate) -> Floats:
            return rate(s[:, :4]) - rate(s[:, 4:])

        mean = float(gap(sums)[0])
        if not np.isnan(mean):
            differences[name] = RateDifference(mean, bootstrap_counts(clusters, gap, seed))
    return Comparison(against, differences, len(both), len(labelled) - len(both))
