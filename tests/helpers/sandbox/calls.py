"""Run `calls` tests given as indented text."""

import textwrap

from seccoderx_lite.core.records import TestResult
from seccoderx_lite.sandbox import Limits, Sandbox


def run(sandbox: Sandbox, code: str, tests: str, limits: Limits | None = None) -> TestResult:
    source = "import pytest\n" + textwrap.dedent(tests)
    return sandbox.run_tests(
        textwrap.dedent(code), "python", {"kind": "calls", "source": source}, limits
    )


def counts(result: TestResult) -> tuple[int, int, int, int]:
    return (
        result.functional_passed,
        result.functional_total,
        result.security_passed,
        result.security_total,
    )
