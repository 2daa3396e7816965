"""Source files as functions, in six languages; and that nothing can make the splitting fail."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.records import LANGUAGES
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
            ("<module>", 2, 8),
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


OUTSIDE = {
    "a callback's call": (
        "javascript",
        "exec(argv[2], (e) => {\n  log(e);\n});\n",
        "exec(argv[2], ...\n);",
    ),
    "a static field": (
        "javascript",
        "class J {\n  static t = execSync(x);\n  run() { return 1; }\n}\n",
        "class J {\n  static t = execSync(x);\n}",
    ),
    "a class body": (
        "python",
        "class S:\n    x = load(f)\n    def g(self):\n        return 1\n",
        "class S:\n    x = load(f)",
    ),
    "a branch": ("python", "if a:\n    def f():\n        pass\n    run(a)\n", "if a:\n    run(a)"),
    "a field of Java": (
        "java",
        "class A {\n  String s = run(x);\n  int m() { return 1; }\n}\n",
        "class A {\n  String s = run(x);\n}",
    ),
    "a variable of Go": (
        "go",
        "package a\nvar x = run(y)\nfunc F() {\n}\n",
        "package a\nvar x = run(y)",
    ),
    "a global of C++": ("cpp", "int x = run(y);\nint f() { return 1; }\n", "int x = run(y);"),
    "a macro with a call": (
        "c",
        "#define RUN(x) system(x)\nint f(void) { return 1; }\n",
        "#define RUN(x) system(x)",
    ),
    "what no grammar knows": ("c", "@@ run @@\nint f(void) { return 1; }\n", "@@ run @@"),
    "an arrow function with types": (
        "javascript",
        "const h = (q: number): void => { eval(q) }\n",
        "const h = (q: number): void => { eval(q) }",
    ),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_all_that_runs_outside_functions_is_one_piece(name):
    language, code, expected = OUTSIDE[name]
    piece = split_functions(code, language)[-1]
    assert (piece.name, piece.code) == ("<module>", expected)
    assert len(piece.lines) == piece.code.count("\n") + 1


MACROS = """DEFINE_CMD(run) {
  return 1;
}
EXPORT int
old(a, b)
  char *a; int b;
{
  return b;
}

SYSCALL_DEFINE2(foo, int, a)
{
  return a;
}
"""


def test_functions_behind_macros_and_of_old_c_are_found():
    found = split_functions(MACROS, "c")
    assert [(f.name, f.start_line, f.end_line, f.signature_line) for f in found] == [
        ("DEFINE_CMD(run)", 1, 3, 1),
        ("old", 4, 9, 5),
        ("SYSCALL_DEFINE2(foo)", 11, 14, 11),
    ]


def test_a_method_that_returns_a_reference_has_its_name():
    code = "class A {\n  const std::string &name() const { return n; }\n};\n"
    assert [f.name for f in split_functions(code, "cpp")] == ["A.name"]


@pytest.mark.parametrize(
    ("language", "code", "line"),
    [
        ("python", "@a\n@b(1)\ndef f():\n    pass\n", 3),
        ("java", "class A {\n @Override\n public int m() { return 1; }\n}\n", 3),
        ("cpp", "template <class T>\nT f() { return 1; }\n", 2),
    ],
)
def test_the_signature_is_below_decorators(language, code, line):
    assert split_functions(code, language)[0].signature_line == line


def test_deep_nesting_is_split_in_no_time():
    code = "x = " + "[" * 5000 + "lambda: 1" + "]" * 5000 + "\ndef f():\n    pass\n"
    started = time.perf_counter()
    assert "f" in [f.name for f in split_functions(code, "python")]
    assert time.perf_counter() - started < 5


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
    text = FILES[language][0][:length]
    for function in split_functions(text, language):
        assert 1 <= function.start_line <= function.end_line <= text.count("\n") + 1
