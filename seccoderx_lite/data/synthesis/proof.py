"""Check generated tests by running them on candidate solutions, secure and insecure ones.

Tests are kept if at least one candidate passes all of them, and another one passes all functional
tests but fails a security test. That other candidate must work: tests that fail only on broken code
say nothing about security.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Json, Language, TestResult
from seccoderx_lite.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Proof:
    """What the candidates show about a set of tests."""

    fault: str | None
    """Why the tests are left out; None if they are kept."""
    passed: int = 0
    """Candidates that passed every test."""
    refuted: int = 0
    """Candidates that work but fail a security test."""


def submit(
    sandbox: Sandbox, tests: Mapping[str, Json], candidates: Sequence[str], language: Language
) -> "list[Future[TestResult]]":
    """Start the tests on every distinct candidate that has code."""
    codes = dict.fromkeys(code for code in candidates if code.strip())
    return [sandbox.submit_tests(code, language, tests) for code in codes]


def prove(runs: "Sequence[Future[TestResult]]") -> Proof:
    """Wait for the runs and judge the tests by them; without a result they are left out."""
    results = []
    for run in runs:
        try:
            results.append(run.result())
        except DataError as error:
            return Proof(f"unusable tests: {error}")
        except SandboxError as error:
            return Proof(f"unscored: {error}")
    return judge(results)


def judge(results: Sequence[TestResult]) -> Proof:
    """Return what the results of different candidates show about the tests."""
    if not results:
        return Proof("no candidate to prove the tests on")
    if not results[0].security_total:
        return Proof("no security test")
    if not results[0].functional_total:
        return Proof("no functional test")
    passed = sum(result.is_functional and result.is_secure for result in results)
    refuted = sum(result.is_functional and not result.is_secure for result in results)
    if not passed:
        return Proof("no candidate passes all tests", passed, refuted)
    if not refuted:
        return Proof("security tests fail on no candidate that works", passed, refuted)
    return Proof(None, passed, refuted)
