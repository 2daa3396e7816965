"""Where thinking ends, in every spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core import thinking
from seccoderx_lite.core.thinking import THINKING_TAGS, answer_of, without_thinking

DRAFT = "Maybe\n```python\ndraft = 1\n```\nNo. "
FINAL = "\n```python\nfinal = 2\n```\n"


@pytest.mark.parametrize(("opening", "closing"), THINKING_TAGS)
def test_thinking_ends_with_its_tag(opening, closing):
    assert without_thinking(f"{opening}{DRAFT}{closing}{FINAL}") == FINAL
    assert without_thinking(f"{DRAFT}{closing}{FINAL}") == FINAL
    assert without_thinking(f"{opening.upper()}\n{DRAFT}\n{closing.upper()}{FINAL}") == FINAL


@pytest.mark.parametrize("opening", [pair[0] for pair in THINKING_TAGS if pair[0][0] != "H"])
def test_thinking_without_end_is_unfinished(opening):
    answer = answer_of(f"{opening}\n{DRAFT}")
    assert (answer.text, answer.is_unfinished) == ("", True)


@pytest.mark.parametrize(
    "completion",
    [
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}",
        "{}<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
        "<|start|>assistant<|channel|>analysis<|message|>{}<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>Now.<|end|>"
        "<|start|>assistant<|channel|>final <|constrain|>md<|message|>{}<|return|>",
        "analysis{}assistantfinal{}",
        "{}assistantfinal{}",
    ],
)
def test_the_final_channel_is_the_answer(completion):
    assert without_thinking(completion.format(DRAFT, FINAL)) == FINAL


@pytest.mark.parametrize(
    "completion",
    [
        "<|channel|>analysis<|message|>" + DRAFT,
        "analysis" + DRAFT.replace("Maybe", "Maybe we"),
        "analysis" + DRAFT,
    ],
)
def test_channels_without_a_final_one_are_unfinished(completion):
    assert answer_of(completion) == thinking.Answer("", is_unfinished=True)


@pytest.mark.parametrize(
    "completion",
    [
        "analysis_result = 1\n",
        "analysisResult = compute(x)\n",
        'tags = "<think>", "</think>"',
        "Remove `</think>` from the text." + FINAL,
        '```python\nre.sub("<think>.*?</think>", "", s)\n```',
        '```python\nparts = s.split("</think>")\n```',
        "```python\nx = 1  # ends at </think>\n```\nDone.",
        '```python\nPROMPT = """\n<think>\n...\n</think>\n"""\n```',
        "```python\nassistantfinal = 1\n```",
        "Here is my thought process: none." + FINAL,
    ],
)
def test_text_that_only_looks_like_thinking_stays(completion):
    assert answer_of(completion) == thinking.Answer(completion)


def test_a_draft_whose_block_was_never_closed_is_thinking():
    assert without_thinking("```python\nx = (\nWrong.</think>" + FINAL) == FINAL


@given(st.lists(st.sampled_from([*THINKING_TAGS[0], "```", "\n", "a", '"', "<|channel|>"])))
def test_any_mixture_of_tags_and_fences_is_read(pieces):
    text = "".join(pieces)
    assert without_thinking(text) in ("", text) or len(without_thinking(text)) < len(text)
