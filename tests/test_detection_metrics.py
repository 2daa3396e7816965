import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from seccoderx_lite import detection_metrics
from seccoderx_lite.detection_metrics import majority, score_detection
from seccoderx_lite.records import LabelledCode


def code(is_vulnerable: bool, *cwe: str) -> LabelledCode:
    return LabelledCode("x = 1", "python", cwe, is_vulnerable)


def test_the_worked_examples_hold():
    result = doctest.testmod(detection_metrics)
    assert result.attempted > 3 and result.failed == 0


verdict_lists = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["vulnerable", "safe", "unclear"])),
    min_size=1,
    max_size=40,
)


@given(verdict_lists)
def test_rates_equal_those_of_scikit_learn(pairs):
    truths = [truth for truth, _ in pairs]
    predicted = [
        (not t) if verdict == "unclear" else verdict == "vulnerable" for t, verdict in pairs
    ]
    scores = score_detection([code(truth) for truth in truths], [verdict for _, verdict in pairs])
    assert scores.accuracy == pytest.approx(oracle.accuracy_score(truths, predicted))
    undefined = {"zero_division": float("nan"), "pos_label": True}
    for rate, expected in [
        (scores.precision, oracle.precision_score(truths, predicted, **undefined)),
        (scores.recall, oracle.recall_score(truths, predicted, **undefined)),
        (scores.f1, oracle.f1_score(truths, predicted, **undefined)),
    ]:
        assert (float("nan") if rate is None else rate) == pytest.approx(expected, nan_ok=True)
    if len(set(truths)) == 2:
        balanced = oracle.balanced_accuracy_score(truths, predicted)
        assert scores.balanced_accuracy == pytest.approx(balanced)
    else:
        assert scores.balanced_accuracy is None


def test_the_confusion_has_two_truths_and_three_verdicts():
    labelled = [code(True), code(True), code(True), code(False), code(False), code(False)]
    verdicts = ["vulnerable", "safe", "unclear", "safe", "unclear", "unclear"]
    scores = score_detection(labelled, verdicts)
    assert scores.confusion == {
        "vulnerable": {"vulnerable": 1, "safe": 1, "unclear": 1},
        "safe": {"vulnerable": 0, "safe": 1, "unclear": 2},
    }
    assert scores.unclear == 3
    assert scores.accuracy == 2 / 6
    assert scores.precision == 1 / 3
    assert scores.recall == 1 / 3
    assert scores.balanced_accuracy == 1 / 3
    assert scores.standard_error == pytest.approx((2 / 6 * 4 / 6 / 6) ** 0.5)


def test_a_failed_judge_is_counted_and_changes_no_rate():
    plain = score_detection([code(True), code(False)], ["vulnerable", "vulnerable"])
    gapped = score_detection(
        [code(True), code(True), code(False)], ["vulnerable", None, "vulnerable"]
    )
    assert gapped.unscored == 1 and gapped.n == 2
    assert (gapped.accuracy, gapped.f1, gapped.confusion) == (
        plain.accuracy,
        plain.f1,
        plain.confusion,
    )


def test_code_with_two_weaknesses_counts_once_in_each():
    labelled = [code(True, "CWE-89", "CWE-78"), code(False, "CWE-89"), code(True)]
    scores = score_detection(labelled, ["vulnerable", "vulnerable", "safe"])
    assert list(scores.per_cwe) == ["CWE-78", "CWE-89"]
    assert (scores.per_cwe["CWE-89"].n, scores.per_cwe["CWE-89"].accuracy) == (2, 0.5)
    assert (scores.per_cwe["CWE-78"].n, scores.per_cwe["CWE-78"].accuracy) == (1, 1.0)
    assert scores.n == 3 and scores.accuracy == 1 / 3


def test_nothing_to_score_gives_no_rates():
    scores = score_detection([], [])
    assert (scores.accuracy, scores.standard_error, scores.f1, scores.n) == (None, None, None, 0)


def test_verdicts_and_code_must_be_equally_many():
    with pytest.raises(ValueError, match="got 1 pieces of code and 0 verdicts"):
        score_detection([code(True)], [])


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["vulnerable"], "vulnerable"),
        (["vulnerable", "safe", "vulnerable"], "vulnerable"),
        (["vulnerable", "safe"], "safe"),
        (["unclear", "unclear", "vulnerable"], "vulnerable"),
        (["unclear", "unclear"], "unclear"),
        ([None, "unclear"], "unclear"),
        ([None, None, "vulnerable"], "vulnerable"),
        ([None], None),
        ([], None),
    ],
)
def test_the_majority_is_of_clear_answers_and_a_tie_is_safe(verdicts, expected):
    assert majority(verdicts) == expected
