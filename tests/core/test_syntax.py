"""Comment stripping in six languages: comments go, strings and meaning stay."""

import ast
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.records import LANGUAGES
from seccoderx_lite.core.syntax import parse, strip_comments


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_a_grammar(language):
    assert parse("", language).child_count == 0


def test_broken_code_gives_a_tree_with_errors():
    assert parse("def f(:", "python").has_error
    assert not parse("def f(): pass", "python").has_error


@pytest.mark.parametrize(
    ("language", "code", "stripped"),
    [
        ("python", "# a\nx = 1  # b\n", "x = 1\n"),
        ("python", '"""Module."""\nx = 1\n', "x = 1\n"),
        ("python", 'def f():\n    """Doc."""\n', "def f():\n    pass\n"),
        ("python", 'def f(): "doc"\n', "def f(): pass\n"),
        ("python", 'def f(): "doc"; return 1\n', "def f(): pass; return 1\n"),
        ("python", 'class A:\n    "doc"\n    # c\n    "more" "parts"\n', "class A:\n    pass\n"),
        ("python", "x = 1\n'it is safe'\ny = 2\n", "x = 1\ny = 2\n"),
        ("python", "f'{run()}'\n", "f'{run()}'\n"),
        ("python", 's = "# not a comment"\n', 's = "# not a comment"\n'),
        ("python", "f(\n    1,  # one\n    2,\n)\n", "f(\n    1,\n    2,\n)\n"),
        ("python", "é = 'ü'  # ö\r\ny = 1\r\n", "é = 'ü'\ny = 1\n"),
        ("c", "int/* a */x; // b\n", "int x;\n"),
        ("c", '/* a\n b */\nchar *s = "// no";\n', 'char *s = "// no";\n'),
        ("c", "#define X 1 // safe\nint y;\n", "#define X 1\nint y;\n"),
        ("c", '#define U "http://a" /* b */\n', '#define U "http://a"\n'),
        ("c", "#define X a \\\n/* b */\nint y;\n", "#define X a \\\n\nint y;\n"),
        ("cpp", 'auto s = R"(// no)"; /* x */ int y; // z', 'auto s = R"(// no)"; int y;'),
        ("java", "/** D. */\nclass A { // x\n  int b; /* y */\n}\n", "class A {\n  int b;\n}\n"),
        ("javascript", "f(); // a\nlet s = `// ${1 /* b */} no`;", "f();\nlet s = `// ${1 } no`;"),
        ("javascript", "return /* a\n */ x;\n", "return \n x;\n"),
        ("go", "package p // a\n/* b */\nvar s = `// no`\n", "package p\nvar s = `// no`\n"),
    ],
)
def test_comments_go_and_strings_stay(language, code, stripped):
    assert strip_comments(code, language) == stripped


STATEMENTS = st.sampled_from(
    [
        "x = 1  # note",
        "# alone",
        "'bare'",
        '"""two\nlines # no"""',
        "y = 'a # b'",
        "'a'; z = 3",
        "if x:\n    'only'",
        "def f(a):\n    # first\n    '''Doc.'''\n    return a  # end",
        "class A:\n    'doc'\n    'again'\n    # last",
        "w = (1,  # one\n     '# two')",
        "",
    ]
)


@given(st.lists(STATEMENTS).map("\n".join))
def test_stripped_python_computes_the_same(code):
    stripped = strip_comments(code, "python")
    assert strip_comments(stripped, "python") == stripped
    assert _effect(stripped) == _effect(code)
    assert "#" not in ast.unparse(_without_strings(stripped))


def _without_strings(code: str) -> ast.Module:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return tree


def _effect(code: str) -> str:
    """The program without statements that do nothing."""

    class DropIdle(ast.NodeTransformer):
        def generic_visit(self, node: ast.AST) -> ast.AST:
            super().generic_visit(node)
            if hasattr(node, "body") and isinstance(node.body, list):
                node.body = [child for child in node.body if not _is_idle(child)]
            return node

    return ast.dump(DropIdle().visit(ast.parse(code)))


def _is_idle(node: ast.AST) -> bool:
    is_string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_string or isinstance(node, ast.Pass)


@given(st.text(), st.sampled_from(LANGUAGES))
def test_stripping_accepts_any_text(text, language):
    assert len(strip_comments(text, language)) <= len(text) + 4 * text.count("\n") + 4


def test_import_does_not_load_grammars_or_torch():
    program = (
        "import sys, seccoderx_lite.judge.prompt as p; print([m for m in sys.modules "
        "if m.startswith(('torch', 'tree_sitter_'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
