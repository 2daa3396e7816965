"""Source files as functions, in six languages; and that nothing can make the splitting fail."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.records import LANGUAGES
from seccoderx_lite.data import functions
from seccoderx_lite.data.functions import split_functions

FILES = {
    "python": (
        '"""About."""\nimport os\n@app.route("/")\ndef f(a):\n    def g():\n        return 1\n'
        "    return g\nclass A:\n    async def m(self):\n        pass\nf(os.environ['A'])\n",
        [("f", 3, 7), ("A.m", 9, 10), ("<module>", 2, 11)],
    ),
    "javascript": (
        "export default function f(a) { return a }\napp.get('/a', (req, res) => {\n"
        "  res.send(req.q);\n});\nconst k = async () => { await 1; };\n"
        "class C { m(a) { return eval(a) } }\nexports.z = function () { return 1 };\nboot();\n",
        [
            ("f", 1, 1),
            ("<anonymous>", 2, 4),
            ("k", 5, 5),
            ("C.m", 6, 6),
            ("exports.z", 7, 7),
            ("<module>", 8, 8),
        ],
    ),
    "c": (
        "#include <stdio.h>\nstatic int *f(char *s) { return 0; }\nint g(void);\n"
        "int main() {\n return 0;\n}\n",
        [("f", 2, 2), ("main", 4, 6)],
    ),
    "cpp": (
        "namespace n { class A { public: int m() { return 1; } A() = default; }; }\n"
        "template <class T> T id(T t) { return t; }\nint n::A::z() { return 2; }\n",
        [("n.A.m", 1, 1), ("id", 2, 2), ("n::A::z", 3, 3)],
    ),
    "java": (
        "class A {\n A() { }\n int m(String s) { return 1; }\n static { g(); }\n"
        " interface I { void p(); }\n}\n",
        [("A.A", 2, 2), ("A.m", 3, 3), ("<anonymous>", 4, 4)],
    ),
    "go": (
        "package a\nvar f = func() { g() }\nfunc (s *S) M(a int) int { return 1 }\n"
        "func Main() {\n}\n",
        [("<anonymous>", 2, 2), ("M", 3, 3), ("Main", 4, 5)],
    ),
}


@pytest.mark.parametrize("language", FILES)
def test_the_outermost_functions_of_a_file_are_found(language):
    code, expected = FILES[language]
    found = split_functions(code, language)
    assert [(f.name, f.start_line, f.end_line) for f in found] == expected


def test_a_method_is_moved_to_the_left_margin():
    code = "class A:\n    @staticmethod\n    def f():\n        return 1\n"
    assert split_functions(code, "python")[0].code == "@staticmethod\ndef f():\n    return 1"


def test_code_that_runs_on_loading_is_a_piece_only_if_it_calls_something():
    assert split_functions('"""About."""\nimport os\nX = 1\n', "python") == []
    (module,) = split_functions("import os\n# no\ndef f(): pass\nos.system(a)\n", "python")[1:]
    assert module.code == "import os\nos.system(a)"


def test_the_worked_examples_hold():
    result = doctest.testmod(functions)
    assert result.attempted > 0 and result.failed == 0


@given(
    st.text(alphabet="(){};:=>\n \t'\"@abcdef\\/*\u00e9\ud800", max_size=60),
    st.sampled_from(LANGUAGES),
)
def test_any_text_can_be_split(text, language):
    lines = text.count("\n") + 1
    for function in split_functions("def f():\n  " + text, language):
        assert 1 <= function.start_line <= function.end_line <= lines + 1


@given(st.sampled_from(list(FILES)), st.integers(0, 200))
def test_a_torn_file_can_be_split(language, length):
    split_functions(FILES[language][0][:length], language)
