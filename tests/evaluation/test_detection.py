import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from seccoderx_lite.core.records import LabelledCode
from seccoderx_lite.evaluation.detection import (
    compare_detection,
    majority,
    score_detection,
    score_pairs,
)


def code(is_vulnerable: bool, *cwe: str) -> LabelledCode:
    return LabelledCode("x = 1", "python", cwe, is_vulnerable)


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
        (
            scores.specificity,
            oracle.recall_score(truths, predicted, **{**undefined, "pos_label": False}),
        ),
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
    assert (scores.accuracy, scores.f1, scores.n) == (None, None, 0)
    assert scores.interval_95 == {}


def test_verdicts_and_code_must_be_equally_many():
    with pytest.raises(ValueError, match="got 1 samples and 0 verdicts"):
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


def pair(name: str) -> list[LabelledCode]:
    return [LabelledCode(side, "c", (), side == "bad", pair=name) for side in ("bad", "fixed")]


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (("vulnerable", "safe"), "correct"),
        (("vulnerable", "vulnerable"), "both_vulnerable"),
        (("safe", "safe"), "both_safe"),
        (("safe", "vulnerable"), "reversed"),
        (("vulnerable", "unclear"), "unclear"),
        (("unclear", "unclear"), "unclear"),
        (("vulnerable", None), "left_out"),
    ],
)
def test_a_pair_has_one_outcome(verdicts, outcome):
    names = ("correct", "both_vulnerable", "both_safe", "reversed", "unclear", "left_out")
    for order in (1, -1):
        scores = score_pairs(pair("a")[::order], verdicts[::order])
        assert [name for name in names if getattr(scores, name)] == [outcome]
        assert scores.n == (outcome != "left_out")


def test_code_without_a_partner_is_no_pair():
    lonely = [code(True), *pair("a")[:1], *pair("b"), pair("b")[0]]
    scores = score_pairs(lonely, ["vulnerable"] * 5)
    assert (scores.n, scores.left_out) == (0, 2)


def test_languages_are_scored_apart():
    labelled = [LabelledCode("", "c", (), True), LabelledCode("", "go", (), True)]
    scores = score_detection(labelled, ["vulnerable", "safe"])
    assert {name: of.accuracy for name, of in scores.per_language.items()} == {"c": 1, "go": 0}


def test_a_judge_that_never_discriminates_has_the_balanced_accuracy_of_chance_for_sure():
    labelled = [side for number in range(30) for side in pair(str(number))]
    scores = score_detection(labelled, ["vulnerable"] * 60)
    assert scores.balanced_accuracy == 0.5
    assert scores.interval_95["balanced_accuracy"] == (0.5, 0.5)
    low, high = scores.interval_95["recall"]
    assert high == 1 and 0.85 < low < 0.9  # 30 samples do not give certainty


def test_the_bootstrap_covers_the_true_f1_about_95_times_in_100():
    generator = np.random.default_rng(0)
    true_f1 = 2 * 0.35 / (2 * 0.35 + 0.15 + 0.2)  # recall 0.7, specificity 0.6, balanced classes
    covered = 0
    for seed in range(200):
        truths = generator.random(200) < 0.5
        says = np.where(truths, generator.random(200) < 0.7, generator.random(200) < 0.4)
        verdicts = ["vulnerable" if said else "safe" for said in says]
        low, high = score_detection([code(bool(t)) for t in truths], verdicts, seed).interval_95[
            "f1"
        ]
        covered += low <= true_f1 <= high
    assert 180 <= covered <= 199


def test_equal_judges_differ_by_nothing():
    labelled = [side for number in range(10) for side in pair(str(number))]
    verdicts = ["vulnerable", "safe", "unclear", "safe"] * 5
    differences = compare_detection(labelled, verdicts, verdicts).differences
    assert set(differences) == {"accuracy", "f1", "balanced_accuracy"}
    assert all(d.mean == 0 and d.interval_95 == (0, 0) for d in differences.values())


def test_code_that_one_judge_left_unscored_is_not_compared():
    labelled = [code(True), code(False), code(True)]
    comparison = compare_detection(
        labelled, ["vulnerable", None, "vulnerable"], ["safe", "safe", None]
    )
    assert (comparison.n, comparison.left_out) == (1, 2)
    assert comparison.differences["accuracy"].mean == 1
    assert comparison.differences["accuracy"].interval_95 is None


def test_nothing_in_common_gives_no_difference():
    assert compare_detection([code(True)], [None], ["safe"]).differences == {}


def test_scoring_twenty_thousand_verdicts_takes_seconds():
    labelled = [side for number in range(10_000) for side in pair(str(number))]
    started = time.monotonic()
    score_detection(labelled, ["vulnerable", "safe"] * 10_000)
    assert time.monotonic() - started < 20
