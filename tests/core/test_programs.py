"""What code defines, uses and does."""

import pytest

from seccoderx_lite.core.programs import program_of


@pytest.mark.parametrize(
    ("language", "code", "defined", "used"),
    [
        ("python", "class A:\n    pass\nx = y = 1\n@dec\ndef f(a): return g(a)", "A f x", "dec g"),
        ("python", "import os as o\nfrom a import b\nf = lambda: o, b, c", "f", "c"),
        ("javascript", "const f = (a) => g(a);\nexport function h() {}", "f h", "g"),
        ("c", "#include <a.h>\nstatic char *f(P *p) { return g(p); }", "f", "P g"),
        ("cpp", "namespace n { struct S { int a; }; }\ntemplate <class T> T f(T t);", "S f", "T"),
        ("java", "class A { B b; int f() { return C.g(); } }", "A", "B C"),
        ("go", "package main\ntype T struct{}\nvar v = 1\nfunc f() T { return g() }", "T f v", "g"),
    ],
)
def test_names_defined_and_used(language, code, defined, used):
    program = program_of(code, language)
    assert program.parses and program.defined == set(defined.split())
    assert program.used == set(used.split())


@pytest.mark.parametrize(
    ("language", "code", "is_whole", "runs"),
    [
        ("python", "def f(): return 1", True, False),
        ("python", "print(1)", True, True),
        ("python", "if __name__ == '__main__':\n    main()", True, True),
        ("python", "x = 1", True, False),
        ("python", "Sure", False, False),
        ("python", "7", False, False),
        ("python", "yes, no - maybe", False, False),
        ("python", "Answer: yes", False, False),
        ("python", "pass", False, False),
        ("python", "Sure, here it is:\ndef f(): return 1", False, False),
        ("javascript", "console.log(1)", True, True),
        ("javascript", "Sure", False, False),
        ("c", "int main(void) { return 0; }", True, True),
        ("c", "int f(void) { return 0; }", True, False),
        ("c", "hello world;", False, False),
        ("cpp", "#include <vector>\nint main() {}", True, True),
        ("java", "class M { public static void main(String[] a) {} }", True, True),
        ("java", "Hello world.", False, False),
        ("go", "package main\nfunc main() {}", True, True),
    ],
)
def test_a_whole_program_does_or_defines_something(language, code, is_whole, runs):
    program = program_of(code, language)
    assert (program.is_whole, program.runs) == (is_whole, runs)


def test_tests_are_told_from_other_definitions():
    assert program_of("class TestA:\n    pass\ndef test_b(): pass", "python").is_test
    assert not program_of("def test_b(): pass\ndef f(): pass", "python").is_test
