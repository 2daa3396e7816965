import ast
import doctest

import pytest

from seccoderx_lite.core import plain_spaces
from seccoderx_lite.core.code_blocks import code_of_answer
from seccoderx_lite.core.plain_spaces import with_plain_spaces

NBSP, THIN, ZERO, BOM = "\u00a0", "\u202f", "\u200b", "\ufeff"


def test_the_worked_example_holds():
    assert doctest.testmod(plain_spaces).failed == 0


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", f"def f(a):\n{NBSP * 4}return{NBSP}a", "def f(a):\n    return a"),
        ("python", f"x{THIN}= 1{ZERO}\n", "x = 1\n"),
        ("python", f"x = f'{NBSP}{{y}}'  # {NBSP}\n", f"x = f'{NBSP}{{y}}'  # {NBSP}\n"),
        ("c", f"int f(void) {{{NBSP}return{NBSP}'a'; }}", "int f(void) { return 'a'; }"),
        (
            "cpp",
            f'template <class T> T f(T a) {{{NBSP}g("{NBSP}"); }}',
            f'template <class T> T f(T a) {{ g("{NBSP}"); }}',
        ),
        ("java", f'class A {{{NBSP}String s = "{ZERO}"; }}', f'class A {{ String s = "{ZERO}"; }}'),
        ("go", f"func f() {{{NBSP}g(`{NBSP}`) }}", f"func f() {{ g(`{NBSP}`) }}"),
        ("javascript", f"const f ={NBSP}() => `{NBSP}`;", f"const f = () => `{NBSP}`;"),
    ],
)  # fmt: skip
def test_only_spaces_of_the_code_become_plain(language, code, expected):
    assert with_plain_spaces(code, language) == expected


@pytest.mark.parametrize("code", ["x = '\ud800'\u00a0+ 1", "x = 1", ""])
def test_code_without_such_spaces_or_that_cannot_be_encoded_stays(code):
    assert with_plain_spaces(code, "python") == code


@pytest.mark.parametrize("fence", ["```python\n{}\n```", "```python\n{}", "{}"])
def test_the_code_of_an_answer_has_plain_spaces(fence):
    answer = fence.format(f"{BOM}def add(a, b):\n{NBSP * 4}return a + b")
    code = code_of_answer(answer, "python").code
    assert code is not None
    ast.parse(code)
