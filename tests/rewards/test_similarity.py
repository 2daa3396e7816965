"""Our similarity: its range, its edge cases, and codebleu as the oracle of its three parts."""

import importlib.util

import pytest
from helpers.similarity_pairs import similarity_pairs
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.records import LANGUAGES
from seccoderx_lite.core.syntax import parse
from seccoderx_lite.rewards.similarity import (
    analyse_reference,
    similarity,
    similarity_parts,
    subtrees_of,
    subtrees_one_by_one,
)

HAS_CODEBLEU = importlib.util.find_spec("codebleu") is not None


@pytest.mark.skipif(not HAS_CODEBLEU, reason="codebleu is the oracle: needs the extra [codebleu]")
@pytest.mark.parametrize("language", LANGUAGES)
def test_three_parts_equal_those_of_codebleu(language):
    from codebleu import calc_codebleu

    pairs = similarity_pairs((language,))
    assert len(pairs) >= 100
    for _, code, reference in pairs:
        expected = calc_codebleu([reference], [code], lang=language, weights=(0.1, 0.1, 0.7, 0.1))
        parts = similarity_parts(code, reference, language)
        assert parts.ngram == pytest.approx(expected["ngram_match_score"], abs=1e-9), code
        assert parts.keyword_ngram == pytest.approx(
            expected["weighted_ngram_match_score"], abs=1e-9
        ), code
        assert parts.tree == pytest.approx(expected["syntax_match_score"], abs=1e-9), code


@pytest.mark.parametrize("language", LANGUAGES)
def test_subtrees_are_those_that_tree_sitter_writes(language):
    for _, code, _ in similarity_pairs((language,)):
        root = parse(code, language)
        assert sorted(subtrees_of(root)) == sorted(subtrees_one_by_one(root)), code


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_code_is_less_similar_than_edited_code(language):
    pairs = similarity_pairs((language,))
    (_, same, reference), (_, other, _), (_, edited, _) = pairs[:3]
    scores = [similarity(code, reference, language) for code in (same, edited, other)]
    assert scores[0] == 1.0 > scores[1] > scores[2] >= 0.0


CODES = st.text() | st.sampled_from([pair[1] for pair in similarity_pairs()])


@given(CODES, st.sampled_from(LANGUAGES))
def test_identical_code_scores_one(code, language):
    assert similarity(code, code, language) == 1.0
    assert similarity(f"\n{code}\n", code, language) == 1.0


@given(CODES, CODES, st.sampled_from(LANGUAGES))
def test_any_texts_score_between_zero_and_one(code, reference, language):
    parts = similarity_parts(code, reference, language)
    for score in (parts.ngram, parts.keyword_ngram, parts.tree):
        assert 0.0 <= score <= 1.0
    assert 0.0 <= similarity(code, reference, language) <= 1.0


def test_parts_by_hand():
    # Words: 3 of 4 in common; bigrams 1 of 3; no longer n-gram: 0.1 replaces that zero.
    parts = similarity_parts("a = b d", "a = b c", "python")
    assert parts.ngram == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 0.1 / 1) ** 0.25)
    # No keyword: each word weighs 0.2, and a total below 1 counts as 1.
    assert parts.keyword_ngram == pytest.approx((0.6 / 1.0 * 2 / 3 * 1 / 2 * 0.1 / 1) ** 0.25)


def test_short_code_pays_the_brevity_penalty():
    whole = similarity_parts("a = b + c", "a = b + c", "python")
    half = similarity_parts("a = b +", "a = b + c + d + e", "python")
    assert whole.ngram == pytest.approx(1.0)
    assert half.ngram == pytest.approx(2.718281828459045 ** (1 - 9 / 4))


def test_keywords_weigh_five_times_other_words():
    kept_keyword = similarity_parts("return x", "return value", "python")
    kept_name = similarity_parts("yield value", "return value", "python")
    # One word of two in both; the weights turn 1/2 into 1/1.2 and 0.2/1.2.
    ratio = kept_keyword.keyword_ngram / kept_name.keyword_ngram
    assert ratio == pytest.approx((1.0 / 0.2) ** 0.25)
    assert kept_keyword.ngram == pytest.approx(kept_name.ngram)


def test_tree_part_ignores_names_and_comments():
    reference = "def f(a):\n    # first\n    return a + 1\n"
    code = 'def g(b):\n    "Doc."\n    return b + 2  # last\n'
    assert similarity_parts(code, reference, "python").tree == 1.0
    assert similarity_parts("x = [1]", reference, "python").tree == 0.0


def test_weights_are_those_of_seccoderx_divided_by_nine_tenths():
    code, reference = "def g(b): return b", "def f(a): return a"
    parts = similarity_parts(code, reference, "python")
    expected = (0.1 * parts.ngram + 0.1 * parts.keyword_ngram + 0.7 * parts.tree) / 0.9
    assert similarity(code, reference, "python") == pytest.approx(expected)


def test_reference_is_analysed_once():
    analyse_reference.cache_clear()
    for n in range(5):
        similarity_parts(f"x = {n}", "y = 1", "python")
    assert analyse_reference.cache_info().misses == 1
