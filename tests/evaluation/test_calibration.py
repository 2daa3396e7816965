"""Ranking and calibration of a judge's probabilities, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from seccoderx_lite.core.records import LabelledCode
from seccoderx_lite.evaluation import calibration
from seccoderx_lite.evaluation.calibration import reliability_bins, score_probabilities


def code(is_vulnerable: bool, pair: str | None = None) -> LabelledCode:
    return LabelledCode("x = 1", "python", (), is_vulnerable, pair=pair)


judged = st.lists(
    st.tuples(
        st.booleans(),
        st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]),
    ),
    min_size=1,
    max_size=60,
)


@given(judged)
def test_roc_auc_equals_that_of_scikit_learn(pairs):
    truths, probabilities = zip(*pairs, strict=True)
    scores = score_probabilities([code(truth) for truth in truths], probabilities, resamples=20)
    if len(set(truths)) == 2:
        assert scores.roc_auc == pytest.approx(oracle.roc_auc_score(truths, probabilities))
    else:
        assert scores.roc_auc is None and scores.interval_95 == {}


@given(judged)
def test_bins_and_their_error_equal_those_of_scikit_learn(pairs):
    truths, probabilities = zip(*pairs, strict=True)
    bins = reliability_bins(truths, probabilities)
    shares, means = calibration_curve(truths, probabilities, n_bins=10)
    assert [each.vulnerable_share for each in bins] == pytest.approx(list(shares))
    assert [each.mean_probability for each in bins] == pytest.approx(list(means))
    assert sum(each.n for each in bins) == len(pairs)
    weights = [each.n / len(pairs) for each in bins]
    expected = sum(w * abs(s - m) for w, s, m in zip(weights, shares, means, strict=True))
    assert calibration.expected_calibration_error(bins) == pytest.approx(expected)


def test_verdicts_without_a_probability_are_left_out_and_counted():
    scores = score_probabilities([code(True), code(False), code(True)], [0.9, 0.1, None])
    assert (scores.roc_auc, scores.n, scores.without) == (1.0, 2, 1)


def test_a_judge_without_probabilities_has_no_such_scores():
    assert score_probabilities([code(True)], [None]) is None


def test_the_interval_is_that_of_resampled_pairs():
    generator = np.random.default_rng(1)
    labelled = [code(side == 0, str(number)) for number in range(60) for side in (0, 1)]
    probabilities = [0.2 * c.is_vulnerable + 0.8 * generator.random() for c in labelled]
    low, high = score_probabilities(labelled, probabilities, seed=3).interval_95["roc_auc"]
    values = []
    for _ in range(500):
        drawn = generator.integers(0, 60, 60)
        rows = [row for pair in drawn for row in (2 * pair, 2 * pair + 1)]
        values.append(
            oracle.roc_auc_score(
                [labelled[row].is_vulnerable for row in rows], [probabilities[row] for row in rows]
            )
        )
    assert [low, high] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.02)
