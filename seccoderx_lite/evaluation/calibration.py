"""How good a judge's probabilities are: ranking (ROC AUC) and calibration; pure arithmetic."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seccoderx_lite.core.detection_scores import ProbabilityScores, ReliabilityBin
from seccoderx_lite.core.numbers import finite, wilson_interval
from seccoderx_lite.core.records import LabelledCode
from seccoderx_lite.core.scores import Interval
from seccoderx_lite.evaluation.intervals import Floats, percentiles_95

Truths = NDArray[np.bool_]


def reliability_bins(
    truths: Sequence[bool], probabilities: Sequence[float], bins: int = 10
) -> list[ReliabilityBin]:
    """Return the non-empty bins of equal width.

    Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 2.

    >>> first, second = reliability_bins([False, True, True], [0.02, 0.08, 0.9], bins=10)
    >>> first.n, first.vulnerable_share, second.low, second.high
    (2, 0.5, 0.8, 0.9)
    """
    y, p = np.asarray(truths, dtype=bool), np.asarray(probabilities, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    where = np.searchsorted(edges[1:-1], p)
    found = []
    for number in range(bins):
        inside = where == number
        if n := int(inside.sum()):
            vulnerable = int(y[inside].sum())
            found.append(
                ReliabilityBin(
                    low=round(float(edges[number]), 10),
                    high=round(float(edges[number + 1]), 10),
                    n=n,
                    mean_probability=float(p[inside].mean()),
                    vulnerable_share=vulnerable / n,
                    interval_95=wilson_interval(vulnerable, n),
                )
            )
    return found


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the mean distance of probability and truth over bins, weighted by their size.

    Equation 3 of arXiv 1706.04599, with the probability of the positive class instead of the
    confidence. In [0, 1]; biased upwards on few samples, so it has no interval.

    >>> bins = reliability_bins([False, True, True], [0.25, 0.25, 1.0], bins=2)
    >>> round(expected_calibration_error(bins), 4)  # (2 * |0.25 - 0.5| + 1 * 0) / 3
    0.1667
    """
    total = sum(each.n for each in bins)
    return sum(each.n * abs(each.mean_probability - each.vulnerable_share) for each in bins) / total


def score_probabilities(
    labelled: Sequence[LabelledCode],
    probabilities: Sequence[float | None],
    seed: int = 0,
    resamples: int = 2000,
) -> ProbabilityScores | None:
    """Return ranking and calibration over the samples that have a probability; None without any.

    ROC AUC is the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982); None if all the
    code is vulnerable, or none.

    Raises:
        ValueError: the numbers of probabilities and samples differ.

    >>> code = [LabelledCode("", "c", (), truth) for truth in (True, True, False, False)]
    >>> score_probabilities(code, [0.9, 0.4, 0.4, 0.1]).roc_auc  # (2 + 1 + 0.5) / 4
    0.875
    """
    if len(labelled) != len(probabilities):
        raise ValueError(
            f"needs one probability per sample (got {len(labelled)} samples and "
            f"{len(probabilities)} probabilities)"
        )
    given = zip(labelled, map(finite, probabilities), strict=True)
    known = [(code, p) for code, p in given if p is not None]
    if not known:
        return None
    known.sort(key=lambda pair: pair[1])
    truths = np.array([code.is_vulnerable for code, _ in known])
    p = np.array([probability for _, probability in known], dtype=np.float64)
    pairs = [code.pair or number for number, (code, _) in enumerate(known)]
    cluster_of = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    clusters = np.array([cluster_of[pair] for pair in pairs])
    auc = float(_auc(np.ones((1, len(p))), truths, p)[0])
    interval = None
    if not np.isnan(auc) and len(cluster_of) > 1:
        interval = _auc_interval(truths, p, clusters, seed, resamples)
    bins = reliability_bins(truths.tolist(), p.tolist())
    return ProbabilityScores(
        roc_auc=None if np.isnan(auc) else auc,
        expected_calibration_error=expected_calibration_error(bins),
        bins=bins,
        n=len(known),
        without=len(labelled) - len(known),
        interval_95={"roc_auc": interval} if interval else {},
    )


def _auc(weights: Floats, truths: Truths, p: Floats) -> Floats:
    """ROC AUC per row of weights, shape (R, N), over N probabilities in ascending order.

    Not `scipy.stats.mannwhitneyu`, which takes no weights: the bootstrap needs R of them at once.
    """
    starts = np.flatnonzero(np.diff(p, prepend=-1.0))
    positive = np.add.reduceat(weights * truths, starts, axis=1)
    negative = np.add.reduceat(weights * ~truths, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * below).sum(axis=1)
    values: Floats = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return values


def _auc_interval(
    truths: Truths, p: Floats, clusters: NDArray[np.int64], seed: int, resamples: int
) -> Interval | None:
    generator = np.random.default_rng(seed)
    count = int(clusters.max()) + 1
    at_once = max(1, 1_000_000 // len(p))  # keeps the weights below about 8 MB
    values = [
        _auc(
            generator.multinomial(
                count, np.full(count, 1 / count), size=min(at_once, resamples - done)
            )[:, clusters].astype(np.float64),
            truths,
            p,
        )
        for done in range(0, resamples, at_once)
    ]
    return percentiles_95(np.concatenate(values))
