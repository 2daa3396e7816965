"""How well a judge tells vulnerable code from safe code; pure arithmetic.

The positive class is vulnerable code. An unclear verdict is wrong and is counted; a judge that
failed is `None`: its verdict stays outside every rate and is counted. Shares get Wilson intervals,
other rates a bootstrap over pairs. Probabilities are in `calibration`, scores of completions in
`metrics`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from seccoderx_lite.core import cwe
from seccoderx_lite.core.records import LabelledCode, VerdictLabel
from seccoderx_lite.evaluation.intervals import Floats, Interval, bootstrap_counts, wilson_interval

Verdicts: TypeAlias = Sequence[VerdictLabel | None]
DetectionMetric = Literal[
    "accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy"
]


def majority(verdicts: Verdicts) -> VerdictLabel | None:
    """Return the verdict most clear answers agree on; a tie is "safe", as in SecCoderX.

    Answers that are unscored (None) do not vote; with nothing but those the result is unscored.

    >>> majority(["vulnerable", "unclear", "vulnerable", "safe"])
    'vulnerable'
    >>> majority(["vulnerable", "safe"]), majority(["unclear", None]), majority([None])
    ('safe', 'unclear', None)
    """
    counts = Counter(verdicts)
    if counts["vulnerable"] == counts["safe"] == 0:
        return "unclear" if counts["unclear"] else None
    return "vulnerable" if counts["vulnerable"] > counts["safe"] else "safe"


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """The usual rates of a detector, with vulnerable code as the positive class.

    A ratio is None where it is undefined, such as the recall over code none of which is vulnerable.
    """

    accuracy: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    """Recall of the safe class."""
    f1: float | None
    balanced_accuracy: float | None
    """Mean of recall and specificity."""
    n: int
    """Verdicts that count."""
    unclear: int
    """Verdicts that were neither; each is counted as wrong."""
    unscored: int
    """Pieces of code without a verdict through our fault; outside everything above."""
    confusion: Mapping[str, Mapping[str, int]]
    """Truth ("vulnerable", "safe"), then verdict ("vulnerable", "safe", "unclear")."""
    interval_95: Mapping[DetectionMetric, Interval]
    """Of each rate that has a value."""
    per_language: Mapping[str, "DetectionScores"] = field(default_factory=dict)
    per_cwe: Mapping[str, "DetectionScores"] = field(default_factory=dict)
    """The same per weakness; code with several weaknesses counts once in each."""


def score_detection(
    labelled: Sequence[LabelledCode], verdicts: Verdicts, seed: int = 0
) -> DetectionScores:
    """Return how well verdicts agree with the truth, as SecCoderX's `vulnerability_evaluator.py`.

    Unclear counts as the opposite of the truth. Departures: a ratio of 0 to 0 is None, not 0, and
    our own failures are left out and counted. The seed is that of the bootstrap.

    Raises:
        ValueError: there are not as many verdicts as pieces of code.

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
        raise ValueError(f"got {len(labelled)} pieces of code and {len(verdicts)} verdicts")
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
    """Counts of each pair, and of each piece of code that has none."""
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


@dataclass(frozen=True, slots=True)
class PairScores:
    """PrimeVul's pairwise metrics: counts of pairs of vulnerable code and its fix."""

    correct: int
    """P-C: the vulnerable side is called vulnerable, the fixed side safe."""
    both_vulnerable: int
    """P-V."""
    both_safe: int
    """P-B: both called benign."""
    reversed: int
    """P-R: the vulnerable side is called safe, the fixed side vulnerable."""
    unclear: int
    """Pairs with an unclear side; counted in `n`, and never correct."""
    n: int
    left_out: int
    """Pairs with an unscored side, and groups that are not one vulnerable and one safe side."""

    def share(self, count: int) -> tuple[float, Interval]:
        """Return a count as a share of all pairs, with its 95% interval; needs a pair."""
        return count / self.n, wilson_interval(count, self.n)


def score_pairs(labelled: Sequence[LabelledCode], verdicts: Verdicts) -> PairScores:
    """Return how pairs were judged; arXiv 2403.18624, section 4.1 ("PrimeVul").

    Departure: PrimeVul's classifiers have no unclear verdicts; here such pairs are a fifth outcome.

    Raises:
        ValueError: there are not as many verdicts as pieces of code.

    >>> sides = [(True, "a"), (False, "a"), (True, "b"), (False, "b")]
    >>> code = [LabelledCode("", "c", (), truth, pair=pair) for truth, pair in sides]
    >>> scores = score_pairs(code, ["vulnerable", "safe", "safe", "vulnerable"])
    >>> scores.correct, scores.reversed, scores.n, scores.share(scores.correct)[0]
    (1, 1, 2, 0.5)
    """
    groups: dict[str, list[_Judged]] = {}
    for code, verdict in _judged(labelled, verdicts):
        if code.pair is not None:
            groups.setdefault(code.pair, []).append((code, verdict))
    outcomes: Counter[tuple[str, str] | None] = Counter(map(_outcome, groups.values()))
    left_out = outcomes.pop(None, 0)
    clear = {
        "correct": outcomes["vulnerable", "safe"],
        "both_vulnerable": outcomes["vulnerable", "vulnerable"],
        "both_safe": outcomes["safe", "safe"],
        "reversed": outcomes["safe", "vulnerable"],
    }
    n = outcomes.total()
    return PairScores(**clear, unclear=n - sum(clear.values()), n=n, left_out=left_out)


def _outcome(sides: Sequence[_Judged]) -> tuple[str, str] | None:
    """Verdict on the vulnerable side and on the safe one; None where there is no such pair."""
    by_truth = {code.is_vulnerable: verdict for code, verdict in sides}
    vulnerable, safe = by_truth.get(True), by_truth.get(False)
    return None if len(sides) != 2 or not vulnerable or not safe else (vulnerable, safe)


@dataclass(frozen=True, slots=True)
class RateDifference:
    """How much better the first of two judges is than the second, on the same code."""

    mean: float
    """First minus second."""
    interval_95: Interval | None
    """By paired bootstrap; a difference is established where 0 lies outside."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two judges on the same code."""

    differences: Mapping[DetectionMetric, RateDifference]
    """Accuracy, F1 and balanced accuracy, where both judges have them."""
    n: int
    left_out: int
    """Code that one of the two left unscored."""


def compare_detection(
    labelled: Sequence[LabelledCode], first: Verdicts, second: Verdicts, seed: int = 0
) -> Comparison:
    """Return the difference between two judges by a paired bootstrap over pairs.

    Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13: both judges are scored on
    the same resample of the code, so what is hard for both cancels.

    Raises:
        ValueError: the verdicts are not as many as the pieces of code.

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
    return Comparison(differences, len(both), len(labelled) - len(both))
