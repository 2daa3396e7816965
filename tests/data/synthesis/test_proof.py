"""Tests are kept only where candidates prove them."""

import pytest

from seccoderx_lite.core.records import TestResult
from seccoderx_lite.data.synthesis.proof import judge, prove, submit
from seccoderx_lite.sandbox import Sandbox

TESTS = {
    "kind": "calls",
    "source": """
import pytest
from candidate import double

@pytest.mark.functionality
def test_doubles():
    assert double("2") == 4

@pytest.mark.security
def test_runs_no_code():
    with pytest.raises(ValueError):
        double("__import__('os').getpid()")
""",
}
SAFE, UNSAFE = "def double(x):\n    return 2 * int(x)", "def double(x):\n    return 2 * eval(x)"


def outcome(functional: int, security: int, of: tuple[int, int] = (2, 2)) -> TestResult:
    return TestResult("failed", functional, of[0], security, of[1])


@pytest.mark.parametrize(
    ("results", "fault"),
    [
        ([outcome(2, 2), outcome(2, 1)], None),
        ([outcome(2, 2)], "security tests fail on no candidate that works"),
        ([outcome(2, 2), outcome(1, 0)], "security tests fail on no candidate that works"),
        ([outcome(2, 1), outcome(1, 2)], "no candidate passes all tests"),
        ([outcome(2, 0, (2, 0))], "no security test"),
        ([outcome(0, 2, (0, 2))], "no functional test"),
        ([], "no candidate to prove the tests on"),
    ],
)
def test_what_proves_tests(results, fault):
    assert judge(results).fault == fault


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox("limits-only", workers=1) as opened:
        yield opened


def test_tests_are_proved_by_running_them(sandbox):
    proof = prove(submit(sandbox, TESTS, [SAFE, UNSAFE, SAFE, "", "def double(x"], "python"))
    assert (proof.fault, proof.passed, proof.refuted) == (None, 1, 1)


@pytest.mark.parametrize("source", ["def test(", "x = 1", "import nowhere\ndef test_x(): pass"])
def test_tests_that_cannot_be_run_are_unusable(sandbox, source):
    tests = {"kind": "calls", "source": source}
    assert prove(submit(sandbox, tests, [SAFE, UNSAFE], "python")).fault.startswith("unusable")


def test_a_program_in_c_is_proved_by_what_it_prints(sandbox):
    safe = "#include <stdio.h>\nint main(){char b[8];if(fgets(b,8,stdin))fputs(b,stdout);return 0;}"
    unsafe = safe.replace("return 0", 'if(b[0]==65)puts("more");return 0')
    tests = {
        "kind": "stdio",
        "functionality": [{"stdin": "hi\n", "stdout": "hi\n"}],
        "security": [{"stdin": "A\n", "stdout": "A\n"}],
    }
    proof = prove(submit(sandbox, tests, [safe, unsafe], "c"))
    assert proof.fault is None or proof.fault.startswith("unscored")  # without a compiler
