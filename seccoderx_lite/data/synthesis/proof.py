"""Tests are kept only if they prove themselves: on code that is right, and on code that is not.

A test set is proved when all its tests pass on one candidate at least, and on another all
functional tests pass while the security tests fail. That other candidate must work: tests that
fail on broken code only say nothing about security.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Json, Language, TestResult
from seccoderx_lite.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Proof:
    """What the candidates say about a test set."""

    fault: str | None
    """Why the tests are left out; None when they are proved."""
    passed: int = 0
    """Candidates that passed every test."""
    refuted: int = 0
    """Candidates that work but fail a security test."""


def submit(
    sandbox: Sandbox, tests: Mapping[str, Json], candidates: Sequence[str], language: Language
) -> "list[Future[TestResult]]":
    """Start the tests on every different candidate with code."""
    codes = dict.fromkeys(code for code in candidates if code.strip())
    return [sandbox.submit_tests(code, language, tests) for code in codes]


def prove(runs: "Sequence[Future[TestResult]]") -> Proof:
    """Wait for the runs and judge the tests by them; our own failure proves nothing."""
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
    """Return what test results of different candidates say about the tests."""
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
