"""Extraction of code from completions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.code_blocks import extract_block, extract_code

CODE_LINES = st.text(st.characters(codec="utf-8", exclude_characters="`~\r\n"), max_size=30)


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("```c++\nint x;\n```", "int x;"),
        ("```c#\nint x;\n```", "int x;"),
        ("```objective-c\nint x;\n```", "int x;"),
        ("```python  \nx = 1\n```  \n", "x = 1"),
        ("```python title=a.py\nx = 1\n```", "x = 1"),
        ("```python\r\nx = 1\r\ny = 2\r\n```\r\n", "x = 1\ny = 2"),
        ("~~~python\nx = 1\n~~~", "x = 1"),
        ("````md\n```\ninner\n```\n````", "```\ninner\n```"),
        ("Text: ```python\nx = 1\n```", "x = 1"),
        ("```python\nx = 1```\nDone.", "x = 1"),
        ("1. First\n   ```python\n   if x:\n       y()\n   ```", "if x:\n    y()"),
        ("```python\n```", ""),
        ("```python\n\n```", ""),
        ("```python\nx = 1\n\n```", "x = 1\n"),
        ("Call ```foo``` then\n```python\nx = 1\n```", "x = 1"),
        ("```python\ns = '``'\n```", "s = '``'"),
        ("```python\nx = 1", "x = 1"),
        ("```python", ""),
    ],
)
def test_first_block_is_the_code(completion, code):
    assert extract_code(completion) == code


@pytest.mark.parametrize("label", ["c++", "c#", "python", "cpp ", "js\r", "{.python}"])
def test_prose_between_blocks_is_never_code(label):
    completion = f"```{label}\nfirst\n```\nprose\n```{label}\nsecond\n```"
    assert extract_code(completion) == "first"


@pytest.mark.parametrize("text", ["", "I cannot help.", "Use `x`.", "```print(1)```", "a ``` b"])
def test_no_block_is_none(text):
    assert extract_block(text) is None


def test_unclosed_block_yields_the_rest_and_says_so():
    block = extract_block("Here:\n```python\nx = 1\ny =")
    assert (block.code, block.language_label, block.is_closed) == ("x = 1\ny =", "python", False)
    assert extract_block("```python\nx = 1\n```").is_closed


def test_label_is_kept_as_written():
    assert extract_block("```C++ title\nint x;\n```").language_label == "C++"
    assert extract_block("```\nx\n```").language_label == ""


@pytest.mark.parametrize(
    "completion",
    [
        "<think>\n```python\ndraft\n```\n</think>\n```python\nx = 1\n```",
        "<think>a</think><think>```\ndraft\n```</think>\n```python\nx = 1\n```",
        "Maybe\n```python\ndraft\n```\n</think>\n\n```python\nx = 1\n```",
        "```python\nx = 1\n```\nNot this: <think>\n```\ny\n```\n</think>\n",
    ],
)
def test_code_of_thinking_before_the_answer_is_ignored(completion):
    if completion.startswith("```"):
        completion = completion.split("\nNot this")[0]
    assert extract_code(completion) == "x = 1"


def test_thinking_without_end_has_no_code():
    assert extract_code("<think>\n```python\ndraft\n```\nand then") is None


def test_think_tags_inside_code_stay():
    code = 're.sub("<think>.*?</think>", "", s)'
    assert extract_code(f"```python\n{code}\n```") == code


@given(st.lists(CODE_LINES).map("\n".join), st.sampled_from(["", "python", "c++", "c# "]))
def test_fenced_code_comes_back_unchanged(code, label):
    block = extract_block(f"Sure.\n```{label}\n{code}\n```\nBye.")
    assert block.code == code
    assert block.is_closed


@given(st.text())
def test_extraction_accepts_any_text(text):
    code = extract_code(text)
    assert code is None or isinstance(code, str)
