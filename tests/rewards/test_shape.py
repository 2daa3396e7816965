"""Length, grammar, stubs and refusals, in every language."""

import warnings
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.code_blocks import AnswerCode
from seccoderx_lite.core.records import LANGUAGES, Task
from seccoderx_lite.rewards.answers import ParsedAnswer, parse_answer
from seccoderx_lite.rewards.shape import length_change, length_score, length_share

TEN_LINES = "x\n" * 10
HUNDRED_LINES = "x\n" * 100


def parses(code, language):
    return ParsedAnswer("", language, None, AnswerCode(code, "block")).parses


def is_stub(code, language, reference=None):
    return ParsedAnswer("", language, reference, AnswerCode(code, "block")).is_stub


@pytest.mark.parametrize(
    ("lines", "score"),
    [
        (1, -2.0),
        (49, -2.0),
        (50, -0.5),
        (51, -0.5),
        (70, -0.5),
        (71, 1.0),
        (100, 1.0),
        (150, 1.0),
        (151, 0.0),
        (1000, 0.0),
    ],
)
def test_length_score_has_the_thresholds_of_the_original(lines, score):
    assert length_score("y\n" * lines, HUNDRED_LINES) == score


@pytest.mark.parametrize(("code", "reference"), [("", TEN_LINES), ("x", ""), ("x", None), ("", "")])
def test_length_score_is_zero_without_code_or_reference(code, reference):
    assert length_score(code, reference) == 0.0


def test_blank_and_comment_lines_count_as_lines():
    assert length_change("x\n\n# c\n", "a\nb\n") == 0.5


@given(st.integers(1, 400), st.integers(1, 400))
def test_length_share_is_one_exactly_where_the_original_is_and_in_range(lines, reference_lines):
    code, reference = "x\n" * lines, "y\n" * reference_lines
    share, score = length_share(code, reference), length_score(code, reference)
    assert 0.0 <= share <= 1.0
    change = length_change(code, reference)
    if score == 1.0:
        assert share == 1.0
    elif change <= -0.5 or change >= 1.0:
        assert share == 0.0
    elif abs(change + 0.3) > 1e-9:
        assert 0.0 < share < 1.0


@given(st.integers(1, 60))
def test_length_share_has_no_cliff(reference_lines):
    reference = "y\n" * reference_lines
    shares = [length_share("x\n" * n, reference) for n in range(1, 3 * reference_lines)]
    steps = [abs(a - b) for a, b in pairwise(shares)]
    assert max(steps, default=0.0) <= 5.0 / reference_lines + 1e-9


def test_length_share_without_reference_has_only_a_cap():
    assert length_share("x\n" * 400, None) == 1.0
    assert length_share("x\n" * 401, None) == 0.0
    assert length_share("", None) == 0.0


VALID = {
    "python": "def f(a):\n    return a\n",
    "javascript": "const f = (a) => a + 1;\n",
    "c": "int f(int a) { return a; }\n",
    "cpp": "template<class T> T f(T a) { return a; }\n",
    "java": "class A { int f(int a) { return a; } }\n",
    "go": "package p\nfunc f(a int) int { return a }\n",
}
BROKEN = {
    "python": "def f(a:\n    return a\n",
    "javascript": "const f = (a => a + 1;\n",
    "c": "int f(int a) { return a;\n",
    "cpp": "template<class T T f(T a) { return a; }\n",
    "java": "class A { int f(int a) { return a }\n",
    "go": "package p\nfunc f(a int int { return a }\n",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_valid_code_parses_and_broken_code_does_not(language):
    assert parses(VALID[language], language)
    assert not parses(BROKEN[language], language)
    assert not parses("I cannot help with this request.", language)


@pytest.mark.parametrize(
    "code", ["def f(a):\nreturn a\n", "if x:\n        a\n    b\n", "x = 1\0", "(" * 5000, "é ="]
)
def test_python_needs_pythons_own_parser_to_agree(code):
    assert not parses(code, "python")


def test_odd_escapes_do_not_warn_or_fail():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parses("import re\nre.compile('\\d[escape]')\n", "python")


def test_macros_may_break_one_line_in_twenty_of_c_only():
    function = "int f(int a) {\n" + "  a++;\n" * 30 + "  FOREACH(i, a) do_it(i);\n  return a;\n}\n"
    assert parses(function, "c")
    assert not parses("int f(int a) {\n  FOREACH(i, a) do_it(i);\n  return a;\n}\n", "c")
    assert not parses(VALID["java"] * 40 + BROKEN["java"], "java")


STUBS = [
    ("python", ""),
    ("python", "# TODO\n"),
    ("python", "pass"),
    ("python", "..."),
    ("python", '"""I would query the database here."""'),
    ("python", "import os\nfrom x import y\nLIMIT = 10\n"),
    ("python", "def f(a):\n    pass\n"),
    ("python", "def f(a):\n    ...\n"),
    ("python", 'def f(a):\n    """Returns it."""\n'),
    ("python", "def f(a):\n    raise NotImplementedError\n"),
    ("python", "def f(a):\n    raise NotImplementedError('later')\n"),
    ("python", "def f(a):\n    return NotImplemented\n"),
    ("python", "def f(a):\n    # TODO: check a\n    return None\n"),
    ("python", "def f(a, b=1):\n    return True\n"),
    ("python", "def f(a):\n    result = {}\n    return result\n"),
    ("python", "def f(a):\n    print('TODO')\n"),
    ("python", "def f(a):\n    raise Exception('disabled')\n"),
    ("python", "def f():\n    return 1\n"),
    ("python", "async def f(a) -> int:\n    return 0\n"),
    ("python", "class A:\n    def f(self, a):\n        pass\n    def g(self):\n        return 1\n"),
    ("python", "def f(a):\n    pass\n\nif __name__ == '__main__':\n    print(f(1))\n"),
    ("python", "print(\"I'm sorry, I can't help with that.\")"),
    ("c", "int f(int a);\n"),
    ("c", "#include <stdio.h>\nint f(int a) { return 0; }\n"),
    ("c", "void f(char *a) { /* TODO */ ; }\n"),
    ("c", 'int f(char *a) { printf("not implemented"); return -1; }\n'),
    ("cpp", "class A { public: int f(int a) { return 1; } };\n"),
    ("cpp", 'int f(int a) { throw std::logic_error("not implemented"); }\n'),
    ("java", "class A { int f(int a) { throw new UnsupportedOperationException(); } }\n"),
    ("java", 'class A { int f(int a) { System.out.println("TODO"); return 0; } }\n'),
    ("java", "interface A { int f(int a); }\n"),
    ("javascript", "function f(a) {}\n"),
    ("javascript", "const f = (a) => null;\n"),
    ("javascript", 'const f = async (a) => { throw new Error("no"); };\n'),
    ("javascript", "exports.f = function (a) { return true; };\n"),
    ("go", "package p\nfunc f(a int) error { return nil }\n"),
    ("go", 'package p\nfunc f(a int) { panic("not implemented") }\n'),
    ("go", "package p\n"),
]
WORKING = [
    ("python", "def f(a):\n    return a\n"),
    ("python", "def f(a):\n    raise ValueError(a)\n"),
    ("python", "def f():\n    return connect()\n"),
    ("python", "def f():\n    return TABLE\n"),
    ("python", "print(sum(map(int, input().split())))\n"),
    ("python", "total = 0\nfor n in numbers:\n    total += n\n"),
    (
        "python",
        "class E(Exception):\n    def g(self):\n        pass\n\ndef f(a):\n    return a + 1\n",
    ),
    ("python", "def list_todos():\n    return db.query('todo')\n"),
    ("c", "int f(int a) { return a; }\n"),
    ("c", "char *f(char *a) { return strdup(a); }\n"),
    ("cpp", "struct A { int x; A(int y) : x(y) {} };\n"),
    ("cpp", "int A::f(int a) const { return a + 1; }\n"),
    ("java", "class A { int f(int a) { return a; } }\n"),
    ("java", "class A { int x; A(int x) { this.x = x; } }\n"),
    ("javascript", "const f = a => a + 1;\n"),
    ("javascript", "app.get('/', (req, res) => res.send(req.query.a));\n"),
    ("javascript", "function f({ a }) { return a; }\n"),
    ("go", "package p\nfunc f(a int) int { return a }\n"),
]


@pytest.mark.parametrize(("language", "code"), STUBS)
def test_code_that_does_nothing_is_a_stub(language, code):
    assert is_stub(code, language)


@pytest.mark.parametrize(("language", "code"), WORKING)
def test_code_that_works_is_no_stub(language, code):
    assert not is_stub(code, language)
    assert not is_stub(code, language, code)


def test_one_hollow_function_is_enough_if_the_reference_fills_it():
    reference = "def clean(a):\n    return a.strip()\n\ndef f(a):\n    return clean(a)\n"
    code = "def clean(a):\n    return a.strip()\n\ndef f(a):\n    return None\n"
    assert is_stub(code, "python", reference)
    assert not is_stub(code, "python", "def other(a):\n    return a + 1\n")


def test_constant_is_no_stub_if_the_reference_is_one_too():
    reference = "def is_enabled(name):\n    return False\n"
    assert not is_stub("def is_enabled(name):\n    return True\n", "python", reference)


@given(st.text(), st.sampled_from(LANGUAGES))
def test_shape_accepts_any_text(text, language):
    assert isinstance(is_stub(text, language), bool)
    assert isinstance(parses(text, language), bool)


@pytest.mark.parametrize(
    "completion",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot write insecure code.",
        "As an AI model, I must not.",
        "I won\u2019t do this.\n```python\n\n```",
    ],
)
def test_declining_without_code_is_a_refusal(completion):
    assert parse_answer(completion, Task("1", "p", "python")).is_stub


@pytest.mark.parametrize(
    "completion",
    ["", "Here is the plan.", "I can't use eval here:\n```python\nx = int(s)\n```"],
)
def test_other_prose_and_code_is_no_refusal(completion):
    assert not parse_answer(completion, Task("1", "p", "python")).is_stub
