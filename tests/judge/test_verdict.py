"""The judge's answers: which verdict is read from which text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.judge.verdict import has_judge_format, judge_answer, parse_verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("<answer>Vulnerable</answer>", "vulnerable"),
        ("<answer>Not Vulnerable</answer>", "safe"),
        ("<ANSWER>\nNOT VULNERABLE\n</ANSWER>", "safe"),
        ("<answer>non-vulnerable</answer>", "safe"),
        ("<answer>not_vulnerable</answer>", "safe"),
        ("<answer>Not-Vulnerable</answer>", "safe"),
        ("<answer>Vulnerable;[CWE-89, CWE-72]</answer>", "vulnerable"),
        ("<answer>Not Vulnerable;[]</answer>", "safe"),
        ("<answer>vulnerable</answer> no: <answer>Not Vulnerable</answer>", "safe"),
        ("<answer>Not Vulnerable</answer><answer>Vulnerable</answer>", "vulnerable"),
        ("<answer>Not Vulnerable</answer><answer>maybe</answer>", "unclear"),
        ("<answer>draft <answer>Vulnerable</answer>", "vulnerable"),
        ("<answer>Vulnerable</answer> and <answer>Not", "vulnerable"),
        ("<answer>Vulnerable or Not Vulnerable</answer>", "unclear"),
        ("<answer>Vulnerable, mostly</answer>", "unclear"),
        ("<answer>invulnerable</answer>", "unclear"),
        ("<answer>nonvulnerable</answer>", "unclear"),
        ("<answer></answer>", "unclear"),
        ("<think>It is.</think>\n<answer>Vulnerable", "vulnerable"),
        ("<answer>Not Vulnerable", "safe"),
        ("<answer>Not", "unclear"),
        ("Not Vulnerable", "unclear"),
        ("", "unclear"),
    ],
)
def test_last_answer_block_decides(text, verdict):
    assert parse_verdict(text) == verdict


@pytest.mark.parametrize("word", ["Vulnerable", "Not Vulnerable", "non-vulnerable"])
@pytest.mark.parametrize(
    "form",
    [
        "{}.",
        "{}!",
        "**{}**",
        '"{}"',
        "\u201c{}\u201d",
        "`{}`",
        "[{}]",
        "({})",
        "_{}_.",
        "- {}",
        "{} (CWE-78)",
        "{} (CWE-78: OS Command Injection)",
        "{}; [CWE-78]",
        "{}, CWE-78",
        "{}: cwe_78",
        "{} - CWE-78, CWE-89.",
        "{} to CWE-79",
        "Verdict: {}",
        "**Verdict:** {}",
        "Final verdict: {}.",
        "The answer is {}",
        "The code is {}.",
        "\u2705 {}",
        "{};[]",
    ],
)
def test_verdicts_of_models_never_trained_on_the_form_are_read(word, form):
    expected = "vulnerable" if word == "Vulnerable" else "safe"
    assert parse_verdict(f"<think>So.</think>\n<answer>{form.format(word)}</answer>") == expected


@pytest.mark.parametrize(
    "text",
    [
        "Vulnerable?",
        "Is it vulnerable",
        "Vulnerable (CWE-78) or not vulnerable",
        "Possibly vulnerable",
        "Vulnerable (CWE-78) if x is set, else safe",
        "Not not vulnerable",
        "Vulnerable or safe",
        "Verdict: unclear",
        "Vulnerable: no",
        "Vulnerable CWE-78: no",
        "No",
        "vulnerability found",
    ],
)
def test_what_may_mean_either_is_unclear(text):
    assert parse_verdict(f"<answer>{text}</answer>") == "unclear"


@given(
    st.booleans(), st.text() | st.sampled_from(["<think>", "</think>", "</answer>", "<|im_end|>"])
)
def test_rendered_answer_reads_back(is_vulnerable, reasoning):
    completion = judge_answer(is_vulnerable, reasoning)
    assert parse_verdict(completion) == ("vulnerable" if is_vulnerable else "safe")
    assert has_judge_format(completion)
    assert completion.count("<think>") == completion.count("</answer>") == 1


@pytest.mark.parametrize("completion", ["{}\n", " {}", "{}<|im_end|>", "x{}"])
def test_anything_around_the_answer_breaks_the_format(completion):
    assert not has_judge_format(completion.format(judge_answer(True, "a")))


@given(st.text())
def test_any_text_has_one_of_three_verdicts(text):
    assert parse_verdict(text) in {"vulnerable", "safe", "unclear"}
