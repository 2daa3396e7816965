import textwrap

import pytest
from helpers.sandbox.calls import counts, run

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.sandbox import Limits, Sandbox

TWO_TESTS = """
from candidate import double

@pytest.mark.functionality
def test_doubles():
    assert double(2) == 4

@pytest.mark.security
def test_refuses_text():
    with pytest.raises(TypeError):
        double("2")
"""


def test_right_and_safe_code_passes_everything(sandbox: Sandbox) -> None:
    code = """
    def double(n):
        if not isinstance(n, int):
            raise TypeError("a number, please")
        return 2 * n
    """
    result = run(sandbox, code, TWO_TESTS)
    assert result.status == "passed"
    assert counts(result) == (1, 1, 1, 1)
    assert result.isolation in ("strong", "confined", "limits-only")


def test_each_marker_counts_in_its_own_group(sandbox: Sandbox) -> None:
    result = run(sandbox, "def double(n): return n + n", TWO_TESTS)
    assert result.status == "failed"
    assert counts(result) == (1, 1, 0, 1)
    assert "test_refuses_text" in result.output
    assert "did not raise" in result.output


def test_wrong_code_fails_only_the_tests_it_gets_wrong(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        "def double(n): return n * 2 if n == 2 else 0",
        """
    from candidate import double
    def test_two(): assert double(2) == 4
    def test_three(): assert double(3) == 6
    @pytest.mark.security
    def test_zero(): assert double(0) == 0
    """,
    )
    assert (result.status, counts(result)) == ("failed", (1, 2, 1, 1))


def test_syntax_error_is_a_compile_error_with_full_totals(sandbox: Sandbox) -> None:
    result = run(sandbox, "def double(n) return n", TWO_TESTS)
    assert result.status == "compile_error"
    assert counts(result) == (0, 1, 0, 1)


@pytest.mark.parametrize(
    ("code", "loads"),
    [
        ("raise ValueError('at import')", False),
        ("import no_such_module", False),
        ("def double(n): return n + 0\nprint(double(None))", False),
        ("import sys; sys.exit(0)", False),
        ("x = 1", True),
    ],
    ids=["raises", "import", "example call", "exits", "missing function"],
)
def test_code_that_cannot_be_loaded_fails_every_test_and_says_so(
    sandbox: Sandbox, code: str, loads: bool
) -> None:
    result = run(sandbox, code, TWO_TESTS)
    assert (result.status, result.loads) == ("failed", loads)
    assert counts(result) == (0, 1, 0, 1)


def test_hard_exit_at_import_is_a_crash(sandbox: Sandbox) -> None:
    result = run(sandbox, "import os; os._exit(0)", TWO_TESTS)
    assert (result.status, counts(result)) == ("crashed", (0, 1, 0, 1))


def test_process_that_dies_loses_one_test_only(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        """
    import os
    def f(n):
        if n == 1:
            os._exit(0)
        return n
    """,
        """
    from candidate import f
    def test_zero(): assert f(0) == 0
    def test_dies(): assert f(1) == 1
    def test_two(): assert f(2) == 2
    """,
    )
    assert (result.status, counts(result)) == ("crashed", (2, 3, 0, 0))


def test_call_that_hangs_loses_one_test_only(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        """
    def f(n):
        while n == 1:
            pass
        return n
    """,
        """
    from candidate import f
    def test_dies(): assert f(1) == 1
    def test_two(): assert f(2) == 2
    """,
        Limits(timeout_s=1),
    )
    assert (result.status, counts(result)) == ("timeout", (1, 2, 0, 0))
    assert result.seconds < 10


def test_tests_and_candidate_share_the_working_folder(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        """
    import os, subprocess
    def count_lines(path):
        return int(subprocess.run(["wc", "-l", path], capture_output=True).stdout.split()[0])
    def write(path):
        with open(path, "w") as file: file.write("x")
        os.chmod(path, 0o600)
    def read(path):
        if os.path.islink(path): raise PermissionError("a link")
        return open(path).read()
    def shell(name): return os.popen("echo " + name).read()
    """,
        """
    import os
    from pathlib import Path
    from candidate import count_lines, read, shell, write
    def test_reads_what_the_test_planted(tmp_path):
        (tmp_path / "a").write_text("1\\n2\\n")
        assert count_lines(str(tmp_path / "a")) == 2
    def test_writes_what_the_test_sees(tmp_path):
        write(tmp_path / "b")
        assert (tmp_path / "b").read_text() == "x"
        assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    @pytest.mark.security
    def test_link(tmp_path):
        (tmp_path / "secret").write_text("s")
        (tmp_path / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(PermissionError):
            read(str(tmp_path / "link"))
    @pytest.mark.security
    def test_marker_file_in_the_working_folder():
        shell("a; touch marker")
        assert not Path("marker").exists()
    """,
    )
    assert counts(result) == (2, 2, 1, 2), result.output
    assert "test_marker_file" in result.output


def test_ordinary_library_use_works(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        """
    import asyncio, hashlib, socket, sqlite3, tempfile, threading, multiprocessing, secrets
    from concurrent.futures import ThreadPoolExecutor
    def database():
        con = sqlite3.connect("x.db"); con.execute("create table t (a)")
        con.execute("insert into t values (?)", ("1; drop table t",)); con.commit()
        return con.execute("select count(*) from t").fetchone()[0]
    def threads():
        with ThreadPoolExecutor(4) as pool: return sum(pool.map(abs, [-1, -2]))
    def temporary():
        with tempfile.NamedTemporaryFile() as file: return file.write(b"abc")
    def asynchronous():
        async def f(): await asyncio.sleep(0); return 7
        return asyncio.run(f())
    def processes():
        with multiprocessing.get_context("fork").Pool(2) as pool: return pool.map(abs, [-1, -2])
    def token(): return secrets.token_hex(4)
    def noisy(): print("x" * 100); return 1
    """,
        """
    from candidate import *
    import candidate as c
    def test_database(): assert c.database() == 1
    def test_threads(): assert c.threads() == 3
    def test_temporary(): assert c.temporary() == 3
    def test_asynchronous(): assert c.asynchronous() == 7
    def test_processes(): assert c.processes() == [1, 2]
    def test_token(): assert len(c.token()) == 8 and c.token() != c.token()
    def test_noisy(): assert c.noisy() == 1
    """,
    )
    assert result.status == "passed", result.output


def test_parametrised_and_class_tests_count_once_each(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        "def f(n): return abs(n)",
        """
    from candidate import f
    @pytest.mark.parametrize("n, want", [(1, 1), (-1, 1), pytest.param(0, 0, id="zero")])
    def test_rows(n, want): assert f(n) == want
    @pytest.mark.parametrize("n", [1, -5])
    def test_bad_row(n): assert f(n) == 1
    class TestMore:
        @pytest.mark.security
        def test_method(self, tmp_path): assert f(-2.5) == pytest.approx(2.5)
    """,
    )
    assert counts(result) == (1, 2, 1, 1), result.output


CASES = {
    "kind": "calls",
    "entry_point": "divide",
    "functionality": [
        {"args": [6, 3], "expect": 2},
        {"args": [1], "kwargs": {"by": 3}, "expect": 0.33333333333},
        {"args": [[4, 6], 2], "expect": [2, 3]},
    ],
    "security": [{"args": [1, 0], "raises": "ValueError"}],
}


def test_plain_cases_are_compared_by_value_or_exception(sandbox: Sandbox) -> None:
    code = textwrap.dedent("""
    def divide(a, by):
        if not by:
            raise ValueError("by zero")
        return tuple(x / by for x in a) if isinstance(a, list) else a / by
    """)
    result = sandbox.run_tests(code, "python", CASES)
    assert (result.status, counts(result)) == ("passed", (3, 3, 1, 1)), result.output
    unsafe = sandbox.run_tests("def divide(a, by): return a // by", "python", CASES)
    assert (unsafe.status, counts(unsafe)) == ("failed", (1, 3, 0, 1))


@pytest.mark.parametrize(
    ("expect", "given", "passes"),
    [
        (1, "True", False),
        (True, "1", False),
        (1, "1.0", True),
        ("1", "1", False),
        (None, "None", True),
        (0, "None", False),
        ([1, 2], "(1, 2)", True),
        ([1], "[1, 2]", False),
        ({"a": [1]}, "{'a': (1,)}", True),
        ({"a": 1}, "{'a': 1, 'b': 2}", False),
        (0.1, "0.1 + 1e-14", True),
        (10**18, "10**18 + 1", False),
        ("é", "'é'", True),
        (float("nan"), "float('nan')", True),
        (float("inf"), "1e999", True),
    ],
)
def test_plain_cases_compare_strictly_by_type(
    sandbox: Sandbox, expect: object, given: str, passes: bool
) -> None:
    tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": expect}]}
    result = sandbox.run_tests(f"def f(): return {given}", "python", tests)
    assert (result.status == "passed") is passes, result.output


SKIPPED = """
import pytest
from candidate import x
@pytest.mark.skipif(x == 1, reason="forged")
def test_a(): assert False
"""


def test_candidate_that_breaks_the_loading_of_its_tests_is_to_blame(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        "def make(): raise ValueError('no')",
        """
    from candidate import make
    MADE = make()
    def test_made(): assert MADE
    """,
    )
    assert (result.status, counts(result)) == ("failed", (0, 1, 0, 0))


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ({"kind": "calls", "source": "x = 1"}, "no test functions"),
        ({"kind": "calls", "source": "def test_a(:"}, "not Python"),
        ({"kind": "calls", "source": "def test_a(capsys): pass"}, "capsys"),
        ({"kind": "calls", "source": "async def test_a(): pass"}, "asynchronous"),
        ({"kind": "calls", "source": "def test_a(): pass\ndef test_a(): pass"}, "two tests"),
        ({"kind": "calls", "source": "import nowhere\ndef test_a(): pass"}, "cannot be loaded"),
        (
            {"kind": "calls", "source": "from candidate import x\nnowhere\ndef test_a(): pass"},
            "line 2",
        ),
        ({"kind": "calls", "source": SKIPPED}, "every test must run"),
        ({"kind": "calls", "entry_point": "f"}, "no cases"),
        ({"kind": "calls", "entry_point": "f", "functionality": [{"args": []}]}, "exactly one"),
        ({"kind": "calls", "functionality": [{"expect": 1}]}, "entry_point"),
        ({"kind": "calls", "sauce": "x"}, "sauce"),
        ({"kind": "poem"}, "poem"),
        ({}, "kind must be"),
    ],
)
def test_unusable_tests_are_an_error_and_never_a_pass(
    sandbox: Sandbox, tests: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        sandbox.run_tests("x = 1", "python", tests)


def test_jobs_submitted_together_come_back_in_order(sandbox: Sandbox) -> None:
    futures = [
        sandbox.submit_tests(
            f"def f(): return {number % 2}", "python",
            {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 0}]},
        )
        for number in range(20)
    ]  # fmt: skip
    passed = [future.result().functional_passed for future in futures]
    assert passed == [1, 0] * 10


def test_text_around_the_code_runs_in_its_module_and_keeps_its_future_imports(sandbox):
    tests = {
        "kind": "calls",
        "before": "limit = 3",
        "after": "def twice(n): return double(double(n))",
        "source": textwrap.dedent(
            """
            import candidate
            def test_before_and_after(): assert candidate.twice(1) == 4
            def test_limit(): assert candidate.limited() == 3
            """
        ),
    }
    functions = "def double(n): return 2 * n\ndef limited(): return limit"
    code = f"from __future__ import annotations\n{functions}"
    result = sandbox.run_tests(code, "python", tests)
    assert (result.status, counts(result)) == ("passed", (2, 2, 0, 0))


@pytest.mark.parametrize("key", ["before", "after"])
@pytest.mark.parametrize("text", [1, "def ("])
def test_text_around_the_code_that_is_not_python_is_refused(sandbox, key, text):
    tests = {"kind": "calls", "source": TWO_TESTS, key: text}
    with pytest.raises(DataError, match=f"{key} "):
        sandbox.run_tests("", "python", tests)
