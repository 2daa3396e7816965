import pytest

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Language, TestResult
from seccoderx_lite.sandbox import Limits, Sandbox, languages
from seccoderx_lite.sandbox.languages import find_tool
from seccoderx_lite.sandbox.stdio import COMPARISONS

SUM = {
    "kind": "stdio",
    "functionality": [
        {"stdin": "1 2\n", "stdout": "3\n"},
        {"stdin": "40 2\n", "stdout": "42"},
    ],
    "security": [{"stdin": "9223372036854775807 1\n", "stdout": "overflow"}],
}

RIGHT: dict[Language, str] = {
    "python": "a, b = map(int, input().split())\nprint(a + b if a + b < 2**63 else 'overflow')",
    "javascript": """
const [a, b] = require('fs').readFileSync(0, 'utf8').trim().split(' ').map(BigInt);
console.log(a + b < 2n ** 63n ? String(a + b) : 'overflow');
""",
    "c": """
#include <stdio.h>
int main(void) {
    long a, b, sum;
    if (scanf("%ld %ld", &a, &b) != 2) return 1;
    if (__builtin_add_overflow(a, b, &sum)) puts("overflow"); else printf("%ld\\n", sum);
    return 0;
}
""",
    "cpp": """
#include <iostream>
int main() {
    long a, b, sum;
    std::cin >> a >> b;
    if (__builtin_add_overflow(a, b, &sum)) std::cout << "overflow"; else std::cout << sum;
}
""",
    "java": """
import java.util.Scanner;
public class Adder {
    public static void main(String[] arguments) {
        Scanner in = new Scanner(System.in);
        try { System.out.println(Math.addExact(in.nextLong(), in.nextLong())); }
        catch (ArithmeticException error) { System.out.println("overflow"); }
    }
}
""",
    "go": """
package main
import "fmt"
func main() {
    var a, b int64
    fmt.Scan(&a, &b)
    if sum := a + b; sum < a { fmt.Println("overflow") } else { fmt.Println(sum) }
}
""",
}

BROKEN: dict[Language, str] = {
    "python": "print(",
    "javascript": "console.log(",
    "c": "int main( {",
    "cpp": "int main( {",
    "java": "class Main {",
    "go": "package main\nfunc main( {",
}

GENEROUS = Limits(timeout_s=20, memory_mb=512)


def run_sum(sandbox: Sandbox, code: str, language: Language) -> TestResult:
    return sandbox.run_tests(code, language, SUM, GENEROUS)


def has(language: Language) -> bool:
    return all(find_tool(names) for names in languages.TOOLS[language])


@pytest.mark.parametrize("language", RIGHT)
def test_right_program_passes_in_each_language(sandbox: Sandbox, language: Language) -> None:
    if not has(language):
        pytest.skip(f"no toolchain for {language}")
    result = run_sum(sandbox, RIGHT[language], language)
    assert result.status == "passed", result.output
    assert (result.functional_passed, result.security_passed) == (2, 1)


@pytest.mark.parametrize("language", BROKEN)
def test_program_that_does_not_build_fails_with_full_totals(
    sandbox: Sandbox, language: Language
) -> None:
    if not has(language):
        pytest.skip(f"no toolchain for {language}")
    result = run_sum(sandbox, BROKEN[language], language)
    is_compiled = language not in ("python", "javascript")
    assert result.status == ("compile_error" if is_compiled else "failed")
    assert (result.functional_passed, result.functional_total) == (0, 2)
    assert (result.security_passed, result.security_total) == (0, 1)
    assert result.output


def test_missing_toolchain_is_a_sandbox_error_that_names_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(languages, "find_tool", lambda names: None)
    with pytest.raises(SandboxError, match="unscored: go is not installed; install it"):
        run_sum(sandbox, RIGHT["go"], "go")


@pytest.mark.skipif(not has("c"), reason="no C compiler")
@pytest.mark.parametrize(
    ("code", "statuses"),
    [
        # Each of these would pass if the exit status decided.
        (
            "#include <stdlib.h>\n__attribute__((constructor)) void f(void) { _Exit(0); }\n"
            "int main(void) { return 1; }",
            "failed",
        ),
        ("int main(void) { return 0; }", "failed"),
        ("int main(void) { int *p = 0; return *p; }", "crashed"),
        ("int main(void) { for (;;); }", "timeout"),
        (
            "#include <stdlib.h>\n#include <string.h>\nint main(void) {\n"
            "for (int i = 0; i < 4096; i++) { char *p = malloc(1 << 20); if (!p) abort();\n"
            "memset(p, 1, 1 << 20); } return 0; }",
            "crashed memory",
        ),
        ('#include <stdio.h>\nint main(void) { for (;;) puts("3"); }', "output_limit"),
        ("#include <unistd.h>\nint main(void) { for (;;) fork(); }", "timeout"),
    ],
    ids=["constructor exits", "silent", "segfault", "loop", "memory", "flood", "fork bomb"],
)
def test_bad_c_program_gains_nothing(sandbox: Sandbox, code: str, statuses: str) -> None:
    limits = Limits(timeout_s=3, memory_mb=128, processes=8)
    result = sandbox.run_tests(code, "c", SUM, limits)
    assert result.status in statuses.split()
    assert (result.functional_passed, result.security_passed) == (0, 0)


@pytest.mark.skipif(not has("c"), reason="no C compiler")
@pytest.mark.parametrize(
    "code",
    [
        '#include "/etc/shadow"\nint main(void) { return 0; }',
        '__asm__(".incbin \\"/etc/shadow\\"");\nint main(void) { return 0; }',
        "int x[1 << 29] = {1};\nint main(void) { return x[5]; }",
    ],
    ids=["include", "incbin", "two gigabytes"],
)
def test_compiler_cannot_be_used_to_read_or_to_fill_the_machine(
    sandbox: Sandbox, code: str
) -> None:
    result = sandbox.run_tests(code, "c", SUM)
    assert result.status == "compile_error"
    assert "root:" not in result.output


@pytest.mark.skipif(not has("c"), reason="no C compiler")
def test_equal_source_is_built_once(sandbox: Sandbox) -> None:
    code = RIGHT["c"] + "// built once"
    kept = len(sandbox.builds)
    first = run_sum(sandbox, code, "c")
    second = run_sum(sandbox, code, "c")
    assert first.status == second.status == "passed"
    assert len(sandbox.builds) == kept + 1


def test_cases_do_not_see_what_earlier_cases_left(sandbox: Sandbox) -> None:
    code = "import os\nprint(sorted(os.listdir('.')))\nopen('left', 'w').write(input())"
    tests = {
        "kind": "stdio",
        "functionality": [
            {"stdin": "a", "stdout": "['main.py']"},
            {"stdin": "b", "stdout": "['main.py', 'note']", "files": {"note": "n"}},
            {"stdin": "c", "stdout": "['main.py']"},
        ],
    }
    result = sandbox.run_tests(code, "python", tests)
    assert result.status == "passed", result.output


def test_output_that_must_not_appear_and_exit_status_are_checked(sandbox: Sandbox) -> None:
    code = "import sys\nprint(open(sys.argv[1]).read())\nsys.exit(int(input()))"
    tests = {
        "kind": "stdio",
        "functionality": [
            {
                "stdin": "3",
                "args": ["open"],
                "files": {"open": "hi"},
                "stdout": "hi",
                "exit_code": 3,
            }
        ],
        "security": [
            {"stdin": "0", "args": ["s"], "files": {"s": "top secret"}, "lacks": "top secret"}
        ],
    }
    result = sandbox.run_tests(code, "python", tests)
    assert (result.functional_passed, result.security_passed) == (1, 0)
    assert "which it must not" in result.output


@pytest.mark.parametrize(
    ("compare", "printed", "wanted", "same"),
    [
        ("exact", "a\n", "a\n", True),
        ("exact", "a", "a\n", False),
        ("trimmed", "a  \nb\n\n", "a\nb", True),
        ("trimmed", "a\n\nb", "a\nb", False),
        ("trimmed", " a", "a", False),
        ("tokens", " a\n\n b ", "a b", True),
        ("tokens", "ab", "a b", False),
        ("numbers", "1.0000001 x", "1 x", True),
        ("numbers", "1.1", "1", False),
        ("numbers", "nan", "1", False),
        ("numbers", "1 2", "1", False),
        ("numbers", "x", "y", False),
    ],
)
def test_comparisons(compare: str, printed: str, wanted: str, same: bool) -> None:
    assert COMPARISONS[compare](printed, wanted) is same


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ({"functionality": []}, "no cases"),
        ({"functionality": [{"stdin": ""}]}, "needs stdout"),
        ({"functionality": [{"stdout": "", "compare": "roughly"}]}, "compare must be"),
        ({"functionality": [{"stdout": 1}]}, "must be text"),
        ({"functionality": [{"stdout": "", "stdn": ""}]}, "stdn"),
        ({"functional": []}, "functional"),
    ],
)
def test_unusable_cases_are_an_error(
    sandbox: Sandbox, tests: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        sandbox.run_tests("", "python", {"kind": "stdio", **tests})


def test_calls_tests_are_for_python_only(sandbox: Sandbox) -> None:
    with pytest.raises(DataError, match="use stdio"):
        sandbox.run_tests("", "c", {"kind": "calls", "source": "def test_a(): pass"})
    with pytest.raises(DataError, match="language must be one of"):
        sandbox.run_tests("", "cobol", {"kind": "calls"})  # type: ignore[arg-type]


def test_time_limit_is_for_all_cases_together(sandbox: Sandbox) -> None:
    cases = [{"stdin": str(number), "stdout": ""} for number in range(8)]
    tests = {"kind": "stdio", "functionality": cases}
    result = sandbox.run_tests("while True: pass", "python", tests, Limits(timeout_s=1))
    assert (result.status, result.functional_passed) == ("timeout", 0)
    assert result.seconds < 4


def test_case_that_hangs_leaves_time_for_the_others(sandbox: Sandbox) -> None:
    code = "n = int(input())\nwhile n == 0: pass\nprint(n)"
    cases = [{"stdin": str(number), "stdout": str(number)} for number in range(3)]
    tests = {"kind": "stdio", "functionality": cases}
    result = sandbox.run_tests(code, "python", tests, Limits(timeout_s=4))
    assert (result.status, result.functional_passed) == ("timeout", 2)


@pytest.mark.parametrize(("standard", "passes"), [(None, True), ("c++20", True), ("c++17", False)])
def test_standard_of_cpp_is_a_field(sandbox: Sandbox, standard: str | None, passes: bool) -> None:
    if not has("cpp"):
        pytest.skip("g++ is not installed")
    code = "#include <concepts>\ntemplate <std::integral T> T same(T a) { return a; }\n"
    tests = {"kind": "stdio", "functionality": [{"exit_code": 0}], "standard": standard}
    result = sandbox.run_tests(code + "int main() { return same(0); }", "cpp", tests, GENEROUS)
    assert (result.status == "passed") is passes, result.output


def test_java_package_and_helper_classes_run(sandbox: Sandbox) -> None:
    if not has("java"):
        pytest.skip("java is not installed")
    code = """
package com.example.app;
// A class that adds.
record Pair(long a, long b) {}
class Helper { static class Inner { static long add(Pair p) { return p.a() + p.b(); } } }
class Start { public static void main(String[] arguments) {
    var in = new java.util.Scanner(System.in);
    System.out.println(Helper.Inner.add(new Pair(in.nextLong(), in.nextLong())));
} }
"""
    tests = {"kind": "stdio", "functionality": SUM["functionality"]}
    result = sandbox.run_tests(code, "java", tests, GENEROUS)
    assert result.status == "passed", result.output
