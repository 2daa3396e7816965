"""The fast removal of comments against the slow one that follows codebleu to the letter."""

import tokenize
from collections.abc import Callable

import pytest
from helpers.similarity_pairs import similarity_pairs
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.syntax import parse
from seccoderx_lite.rewards.comments import (
    cut_any_python,
    cut_ordinary_python,
    remove_comments,
)


@pytest.mark.parametrize(
    ("code", "stripped"),
    [
        ("x = 1  # c\n\n# d\ny = 2", "x = 1  \ny = 2"),
        ('"""Doc."""\nx = 1', "x = 1"),
        ("def f():\n    'doc'\n    return 's'", "def f():\n    return 's'"),
        ("f('a',\n  'b')", "f('a',\n  'b')"),
        ("f(\n'first column'\n)", "f(\n)"),
        ("x = 1\n'after a line end'.join(y)", "x = 1\n.join(y)"),
        ("s = '# no'", "s = '# no'"),
        ("x = 1 + \\\n    2", "x = 1 +     2"),
    ],
)
def test_ordinary_python_is_cut_as_codebleu_cuts_it(code, stripped):
    assert cut_ordinary_python(code) is not None
    assert remove_comments(code, "python") == stripped


@pytest.mark.parametrize(
    "code", ["x = 1)", "if x:\n\ty", "x = 'a", "x = $", "r'doc'", "\u00e9 = 1"]
)
def test_fast_scan_gives_up_on_odd_python(code):
    assert cut_ordinary_python(code) is None


@pytest.mark.parametrize("code", ["x = (1  # c\n\ny", "if x:\n    y  # c\n\n  z", "'''a  # c"])
def test_python_that_does_not_tokenize_stays_as_it_is(code):
    assert remove_comments(code, "python") == code


PIECES = st.lists(
    st.sampled_from(
        [
            *"ab1=:.,()[]{}#'\"\n \\",
            "    ",
            '"""',
            "'''",
            "\n    ",
            "def f():",
            "return",
            "r'",
            "\t",
        ]
    ),
    max_size=30,
).map("".join)
SAMPLES = st.sampled_from([code for _, code, _ in similarity_pairs(("python",))])


@given(PIECES.map(str.strip) | SAMPLES.map(str.strip))
def test_fast_scan_leaves_the_same_tree_as_the_tokenizer(code):
    fast = _tree(cut_ordinary_python, code)
    assert fast in ("given up", _tree(cut_any_python, code))


def _tree(cut: Callable[[str], str | None], code: str) -> str:
    try:
        stripped = cut(code)
    except (tokenize.TokenError, SyntaxError):
        return "does not tokenize"
    if stripped is None:
        return "given up"
    lines = [line for line in stripped.split("\n") if line.strip()]
    return str(parse("\n".join(lines), "python"))


def test_unclosed_quotes_take_no_long_time():
    assert remove_comments("x = '''" + "a'" * 20_000, "python").startswith("x")
    assert remove_comments('"' + "\\a" * 20_000, "python").startswith('"')


@pytest.mark.parametrize("language", ["c", "cpp", "java", "javascript", "go"])
def test_comments_of_other_languages_become_a_space(language):
    code = 'f(); // a\n\n/* b\n */ g("// no");'
    assert remove_comments(code, language) == 'f();  \n  g("// no");'
