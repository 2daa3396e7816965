"""Extraction of code from completions."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seccoderx_lite.core.code_blocks import code_of_answer, extract_block, extract_code
from seccoderx_lite.core.fences import without_label_line
from seccoderx_lite.core.languages import label_language, language_of
from seccoderx_lite.core.plain_spaces import with_plain_spaces
from seccoderx_lite.core.required_code import Asked

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
    assert (block.code, block.info, block.is_closed) == ("x = 1\ny =", "python", False)
    assert extract_block("```python\nx = 1\n```").is_closed


def test_label_is_kept_as_written():
    assert extract_block("```C++ title\nint x;\n```").info == "C++ title"
    assert extract_block("```\nx\n```").info == ""


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
    assume(without_label_line(code, label)[0] == code)
    block = extract_block(f"Sure.\n```{label}\n{code}\n```\nBye.")
    assert block.code == with_plain_spaces(code, language_of(label_language(label) or ""))
    assert block.is_closed


@given(st.text())
def test_extraction_accepts_any_text(text):
    code = extract_code(text)
    assert code is None or isinstance(code, str)


ADD = "def add(a, b):\n    return a + b"
WRONG = "def add(a, b):\n    return a - b"
ADD_ASKED = Asked(frozenset({"add"}))


def fenced(code, label="python"):
    return f"\n```{label}\n{code}\n```\n"


@pytest.mark.parametrize(
    "completion",
    [
        fenced("pip install x", "bash") + fenced(ADD),
        fenced("pip install x", "") + fenced(ADD),
        fenced("app/\n  add.py", "text") + fenced(ADD),
        fenced("app/\n  add.py", "") + fenced(ADD, ""),
        fenced(ADD) + fenced("python add.py", "sh") + fenced("3", "") + fenced("{}", "json"),
        "It was:" + fenced(WRONG) + "Better:" + fenced(ADD),
        fenced(ADD) + "Example:" + fenced("print(add(1, 2))"),
        fenced(ADD)
        + "Tests:"
        + fenced("from add import add\n\ndef test_add():\n    assert add(1, 2)"),
        fenced(ADD) + "In C:" + fenced("int add(int a, int b) { return a + b; }", "c"),
        fenced(ADD, "") + fenced("print(add(1, 2))"),
        fenced(ADD, "text"),
        fenced(ADD, "java"),
        fenced(ADD) + "Another way:\n```python\ndef add(a, b):\n    ret",
    ],
)
def test_the_block_is_chosen_by_label_language_and_what_is_asked(completion):
    assert extract_code(completion, "python", ADD_ASKED) == ADD


@pytest.mark.parametrize(
    "label",
    [
        "Python",
        "PY",
        "python3",
        "python3.11",
        "{.python .numberLines}",
        "{python, echo=TRUE}",
        'python title="a.py"',
        "python:src/a.py",
        "src/a.py",
        "language-python",
        "py,linenos",
    ],
)
def test_labels_are_read_in_any_spelling(label):
    completion = fenced("x\ty", "text") + fenced("broken (", label) + fenced("1 +", "")
    assert extract_code(completion, "python") == "broken ("


@pytest.mark.parametrize("label", ["c++", "C++", "cc", "cxx", "hpp", "C++17", "cplusplus", "c"])
def test_cpp_has_many_labels(label):
    completion = fenced("g++ a.cc", "console") + fenced("int main() {}", label)
    assert extract_code(completion, "cpp") == "int main() {}"


@pytest.mark.parametrize(
    ("blocks", "parts"),
    [
        (["def sub(a, b):\n    return a - b", "def add(a, b):\n    return sub(a, -b)"], [0, 1]),
        (["import operator", "def add(a, b):\n    return operator.add(a, b)"], [0, 1]),
        (["class A:\n    pass", ADD], [1]),
        ([ADD, "def more():\n    return 1"], [0]),
        (
            [WRONG + "\n\ndef sub(a, b):\n    return a - b", "def add(a, b): return sub(a, -b)"],
            [0, 1],
        ),
    ],
)
def test_earlier_blocks_are_added_only_if_they_are_needed(blocks, parts):
    completion = "".join(map(fenced, blocks))
    expected = "\n\n".join(blocks[part] for part in parts)
    assert extract_code(completion, "python", ADD_ASKED) == expected


def test_blocks_that_define_what_is_asked_only_together_are_put_together():
    asked = Asked(frozenset({"add", "sub"}))
    sub = "def sub(a, b):\n    return a - b"
    completion = fenced(ADD) + fenced(sub) + fenced("ls", "sh")
    assert extract_code(completion, "python", asked) == f"{ADD}\n\n{sub}"


PROGRAM = Asked(is_program=True)


@pytest.mark.parametrize(
    ("blocks", "parts"),
    [
        (["def f(x):\n    return x", "print(f(input()))"], [0, 1]),
        (["def f():\n    print(input())\nf()", "f()"], [0]),
        (["print(1)", "print(2)"], [1]),
    ],
)
def test_a_program_is_the_last_block_that_runs_on_its_own(blocks, parts):
    code = extract_code("".join(map(fenced, blocks)), "python", PROGRAM)
    assert code == "\n\n".join(blocks[part] for part in parts)


def test_imports_come_first_where_java_blocks_are_put_together():
    blocks = [
        "import java.util.List;\nclass P { List<P> l; }",
        "import java.util.Map;\nclass M { public static void main(String[] a) { new P(); } }",
    ]
    code = extract_code("".join(fenced(block, "java") for block in blocks), "java", PROGRAM)
    assert code.startswith("import java.util.List;\nimport java.util.Map;\n\nclass P")
    assert "main" in code and code.count("import") == 2


@pytest.mark.parametrize(
    "code",
    [
        'def add(a, b):\n    """Add.\n\n    ```\n    add(1, 2)\n    ```\n    """\n    return a + b',
        '"""Module.\n\n```\nadd(1, 2)\n```\n"""\n' + ADD,
        '"""Module.\n\n```python\nadd(1, 2)\n```\n"""\n' + ADD,
        'FENCE = "```"\n\n\ndef add(a, b):\n    # strip any ```\n    return a + b',
    ],
)
@pytest.mark.parametrize("after", ["", "\nIt adds.\n```sh\npython add.py\n```\n"])
def test_a_fence_inside_the_code_does_not_close_it(code, after):
    assert extract_code(fenced(code) + after, "python", ADD_ASKED) == code


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        (f"> ```python\n> {ADD.replace(chr(10), chr(10) + '> ')}\n> ```", ADD),
        (f"1. So:\n   ```python\n{ADD}\n   ```", ADD),
        (f"- ```python\n  {ADD.replace(chr(10), chr(10) + '  ')}\n  ```", ADD),
        (
            "1. So:\n\n   ```python\n\tdef add(a, b):\n\t\treturn a + b\n   ```",
            ADD.replace("    ", "\t"),
        ),
        (f"~~~~ python\n{ADD}\n~~~\n~~~~", f"{ADD}\n~~~"),
        (f"**Code:**```python\n{ADD}\n```", ADD),
        (f"<answer>```python\n{ADD}\n```</answer>", ADD),
        (f"```python\n{ADD}\n```<|im_end|>", ADD),
        (f"```python\n{ADD}\n```</answer> <|END_RESPONSE|>\nBye.", ADD),
        (f"```python\n{ADD}\n```[/ANSWER]", ADD),
    ],
)
def test_blocks_in_lists_quotations_and_tags_are_read(completion, code):
    assert extract_code(completion, "python") == code


@pytest.mark.parametrize(
    ("completion", "form"),
    [
        (fenced(ADD), "block"),
        ("```python\n" + ADD, "unclosed"),
        (ADD, "bare"),
        (f"\r\n{ADD}\r\n".replace("\n", "\r\n"), "bare"),
        (f"<think>Easy.</think>\n{ADD}", "bare"),
        (f'<pre><code class="language-python">{ADD}</code></pre>', "bare"),
        (f'Here:\n<pre><code class="lang-py">\n{ADD}\n</code></pre>\nBye.', "bare"),
        ("Here:\n<pre><code class='language-sh'>ls</code></pre>", "none"),
        ("```python def add(a, b): return a + b```", "bare"),
        (f"Here it is:\n{ADD}", "none"),
        ("I cannot help with that.", "none"),
        ("Sorry", "none"),
        ("", "none"),
        (fenced("pip install x", "sh"), "none"),
        (fenced(""), "none"),
        ("```python\n", "unfinished"),
        (f"<think>{fenced(WRONG)}", "unfinished"),
    ],
)
def test_an_answer_says_where_its_code_is(completion, form):
    found = code_of_answer(completion, "python", ADD_ASKED)
    assert found.form == form
    assert (found.code is not None) == (form in ("block", "unclosed", "bare"))


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("javascript", "function add(a, b) { return a + b; }"),
        ("c", "int add(int a, int b) { return a < b && b; }"),
        ("cpp", "#include <vector>\nint main() { return 0; }"),
        ("java", "class Main { public static void main(String[] a) {} }"),
        ("go", "package main\n\nfunc main() {}"),
    ],
)
def test_a_bare_program_counts_in_every_language(language, code):
    assert code_of_answer(code, language).code == code
    assert code_of_answer(f"Sure!\n\n{code}", language).code is None


@pytest.mark.parametrize("language", ["python", "c", "java", "go", "rust", None])
@given(
    text=st.lists(st.sampled_from(["```", "~~~", "\n", "py", "x = 1", ">", "- ", " "])).map("".join)
)
def test_any_fences_are_read(language, text):
    block = extract_block(text, language)
    assert block is None or isinstance(block.code, str)


INDENTED_ADD = "    " + ADD.replace("\n", "\n    ")
JS_ADD = "function add(a, b) {\n  return a + b;\n}"


@pytest.mark.parametrize(
    "completion",
    [
        fenced("python\n" + ADD),
        fenced("py\n" + ADD, "python"),
        fenced("Python\n" + ADD, ""),
        "```python\n" + fenced(ADD).strip() + "\n```",
        "```\n" + fenced(ADD).strip() + "\n```",
        "```markdown\n# Answer\n\nSo:\n" + fenced(ADD) + "\nDone.\n```",
        "````md\n# Answer\n" + fenced(ADD) + "````",
        fenced(ADD).replace("\n", "\r"),
        fenced(ADD).replace("\n", "\r\r\n"),
    ],
)
@pytest.mark.parametrize("language", ["python", None])
def test_a_label_a_fence_or_a_line_end_written_twice_is_not_code(completion, language):
    block = extract_block(completion, language, ADD_ASKED)
    assert (block.code, block.is_closed) == (ADD, True)


@pytest.mark.parametrize(
    ("code", "label"),
    [("c = 1\nprint(c)", "python"), ("text\nmore", ""), ("go\nfmt", ""), ("r\nx = 1", "python")],
)
def test_a_first_line_that_is_not_the_label_again_stays(code, label):
    assert extract_code(fenced(code, label)) == code


BARE = [
    ADD.replace("\n", "\r"),
    "python\n" + ADD,
    INDENTED_ADD,
    f"Here it is:\n\n{INDENTED_ADD}\n\nIt adds two numbers.",
    f"It needs pip:\n\n    pip install x\n\nThen:\n\n{INDENTED_ADD}\n\nUse it.",
    f"So:\n\\begin{{verbatim}}\n{ADD}\n\\end{{verbatim}}\nDone.",
    f"So:\n\\begin{{lstlisting}}[language=Python, frame=single]\n{ADD}\n\\end{{lstlisting}}",
    f"\\begin{{minted}}[linenos]{{python}}\n{ADD}\n\\end{{minted}}\nThat is $a + b$.",
    f'<artifact identifier="add" type="code" language="python">\n{ADD}\n</artifact>\nDone.',
    f'Files:\n<files>\n<file path="src/add.py">\n{ADD}\n</file>\n</files>',
    f'<file path="run.sh">\npython add.py\n</file>\n<file path="add.py">\n{ADD}\n</file>',
    f"I add them.\n<code>\n{ADD}\n</code>",
    f"I add them.\n<python>\n{ADD}\n</python>",
    f'<file name="add.py"><![CDATA[\n{ADD}\n]]></file>\nDone.',
    json.dumps({"code": ADD}),
    json.dumps({"explanation": "It adds.", "code": ADD}, indent=2),
    json.dumps({"name": "run", "arguments": {"code": fenced(ADD)}}),
    fenced(json.dumps({"code": ADD}), "json"),
    fenced(json.dumps({"code": ADD}), ""),
    f"<answer>{json.dumps({'code': ADD})}</answer>",
]


@pytest.mark.parametrize("completion", BARE)
def test_evaluation_reads_whole_programs_that_are_marked_in_other_ways(completion):
    found = code_of_answer(completion, "python", ADD_ASKED)
    assert (found.code, found.form) == (ADD, "bare")


@pytest.mark.parametrize(
    "completion",
    [
        f"Here it is:\n{ADD}\nIt adds.",
        f"Here it is:\n\n{ADD}\n\n    print(add(1, 2))\n\nIt adds.",
        f"Here it is: `{ADD.splitlines()[0]} return a + b`",
        f"'''python\n{ADD}\n'''",
        "So:\n\n    pip install add\n\nDone.",
        "<file>\nsee above\n</file>",
        "\\begin{verbatim}\n1 + 1 is\n\\end{verbatim}",
        json.dumps({"answer": "I cannot help with that."}),
        json.dumps({"code": "def add(a, b):\n    return (a"}),
        "{" * 5000,
        "<a>\n" * 500,
    ],
)
def test_evaluation_finds_no_code_in_prose_around_code_and_in_parts_of_it(completion):
    found = code_of_answer(completion, "python", ADD_ASKED)
    assert (found.code, found.form) == (None, "none")


@pytest.mark.parametrize(
    "completion",
    [
        f'<file path="add.js">\n{JS_ADD}\n</file>\nDone.',
        f"\\begin{{lstlisting}}[language=JavaScript]\n{JS_ADD}\n\\end{{lstlisting}}",
        json.dumps({"code": JS_ADD}),
        fenced("js\n" + JS_ADD, "javascript"),
    ],
)
def test_other_marks_are_read_in_other_languages(completion):
    assert code_of_answer(completion, "javascript").code == JS_ADD


@pytest.mark.parametrize(
    "mark",
    ["<|im_end|>", "</s>", "<eos>", "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>"],
)
@pytest.mark.parametrize("answer", ["x = read()", "```python\nx = read()\n```"])
@pytest.mark.parametrize("before", ["", "\n"])
def test_a_special_token_at_the_end_is_not_part_of_the_code(answer, before, mark):
    assert code_of_answer(answer + before + mark, "python").code == "x = read()"


@pytest.mark.parametrize("space", ["\u200b", "\u00a0", "\u2028", "\u3000 "])
def test_odd_spaces_around_a_fence_do_not_hide_it(space):
    text = f"{space}```python\nx = read()\n{space}```{space}\nIt reads."
    found = code_of_answer(text, "python")
    assert (found.code, found.form) == ("x = read()", "block")


def test_odd_spaces_inside_code_and_text_stay():
    code = 'x = read("a\u00a0b\u200bc")'
    assert code_of_answer(f"```python\n{code}\n```", "python").code == code
