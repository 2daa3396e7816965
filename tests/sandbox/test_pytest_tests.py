import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import TestResult
from seccoderx_lite.sandbox import Limits, Sandbox, pytest_tests

SOURCE = """
import pytest
from unittest import mock
import candidate
from candidate import solve

@pytest.fixture
def three():
    return 3

@pytest.mark.functionality
@pytest.mark.parametrize("extra", [0, 1])
def test_adds(three, extra, monkeypatch):
    monkeypatch.setattr(candidate, "OFFSET", extra)
    assert solve(three) == 3 + extra

@pytest.mark.functionality
def test_mock():
    with mock.patch("candidate.OFFSET", 40):
        assert solve(2) == 42

@pytest.mark.security
class TestSafe:
    def test_refuses(self):
        with pytest.raises(ValueError):
            solve(-1)
"""
RIGHT = """
OFFSET = 0
def solve(n):
    if n < 0:
        raise ValueError
    return n + OFFSET
"""
GENEROUS = Limits(timeout_s=20)


def run(sandbox: Sandbox, code: str, source: str = SOURCE, **more: object) -> TestResult:
    tests = {"kind": "pytest", "source": source, **more}
    return sandbox.run_tests(code, "python", tests, GENEROUS)


def passes(result: TestResult) -> tuple[int, int]:
    assert (result.functional_total, result.security_total) == (2, 1)
    return result.functional_passed, result.security_passed


def test_fixtures_patches_and_rows_work_in_the_shared_interpreter(sandbox: Sandbox) -> None:
    result = run(sandbox, RIGHT)
    assert result.status == "passed", result.output
    assert passes(result) == (2, 1)


def test_result_says_that_its_integrity_is_weak(sandbox: Sandbox) -> None:
    assert run(sandbox, RIGHT).output.startswith(pytest_tests.NOTICE)


def test_one_failing_row_fails_its_test_only(sandbox: Sandbox) -> None:
    result = run(sandbox, RIGHT.replace("n + OFFSET", "n + (OFFSET == 40) * 40"))
    assert (result.status, passes(result)) == ("failed", (1, 1))


@pytest.mark.parametrize(
    ("code", "statuses"),
    [
        ("def solve(n): return 0", ("failed",)),
        ("def solve(n: return", ("compile_error",)),
        ("import sys; sys.exit(0)", ("failed",)),
        ("import os; os._exit(0)", ("crashed",)),
        ("import os\ndef solve(n): os._exit(0)", ("crashed",)),
        ("import sys; sys.stdin.buffer.read()\ndef solve(n): return 0", ("crashed",)),
        ("print('passed ' * 99)\ndef solve(n): return 0", ("failed",)),
        (
            "open('conftest.py', 'w').write('raise SystemExit(0)')\ndef solve(n): return 0",
            ("failed",),
        ),
        ("import pytest\ndef solve(n): pytest.skip('no')", ("failed", "crashed")),
        ("import sys\nsys.modules['pytest'] = sys\ndef solve(n): return 0", ("failed", "crashed")),
        (
            """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "_pytest.runner":
            sys.meta_path.remove(self)
            import _pytest.reports as reports
            old = reports.TestReport.__init__
            def init(self, *a, **k):
                old(self, *a, **k); self.outcome = "passed"; self.longrepr = None
            reports.TestReport.__init__ = init
sys.meta_path.insert(0, Finder())
def solve(n): return 0
""",
            ("tampered",),
        ),
    ],
    ids=[
        "wrong",
        "syntax",
        "exit",
        "hard exit",
        "hard exit in call",
        "swallows the tests",
        "prints",
        "conftest",
        "skip",
        "replaces pytest",
        "rewrites reports",
    ],
)
def test_known_hacks_gain_nothing(sandbox: Sandbox, code: str, statuses: tuple[str, ...]) -> None:
    result = run(sandbox, "OFFSET = 0\n" + code)
    assert result.status in statuses, result.output
    assert passes(result) == (0, 0)
    assert run(sandbox, RIGHT).status == "passed"


def test_skipped_and_expected_failures_are_not_passes(sandbox: Sandbox) -> None:
    source = """
import pytest
def test_skips(): pytest.skip("no")
@pytest.mark.xfail
def test_expected(): assert False
@pytest.mark.security
def test_good(): pass
"""
    result = run(sandbox, "x = 1", source)
    assert passes(result) == (0, 1)


def test_module_name_and_files_can_be_given(sandbox: Sandbox) -> None:
    source = "from task import x\ndef test_a(): assert x == open('data/in.txt').read()"
    result = run(sandbox, "x = 'hi'", source, module="task", files={"data/in.txt": "hi"})
    assert result.status == "passed", result.output


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ({"source": "x = 1"}, "no test functions"),
        ({"source": 3}, "must be text"),
        ({"source": "def test_a(): pass", "module": "a.b"}, "module"),
        ({"sauce": ""}, "sauce"),
    ],
)
def test_unusable_tests_are_an_error(
    sandbox: Sandbox, tests: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        sandbox.run_tests("x = 1", "python", {"kind": "pytest", **tests})


def test_code_that_raises_while_it_is_imported_is_told_apart(sandbox: Sandbox) -> None:
    tests = {"kind": "pytest", "source": "from candidate import f\ndef test_f(): assert f() == 1\n"}
    codes = ["def f(): return 1", "def f(): return 2", "def f(): return 1\nf(2)"]
    results = [sandbox.run_tests(code, "python", tests) for code in codes]
    assert [result.loads for result in results] == [True, True, False]
