"""Reads the tests of a task without running anything, so that wrong tests are found early."""

from collections.abc import Mapping
from typing import Any

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import LANGUAGES, Json
from seccoderx_lite.sandbox.calls_tests import GROUPS, Group, Plan, plan_calls
from seccoderx_lite.sandbox.pytest_tests import PytestPlan, plan_pytest
from seccoderx_lite.sandbox.stdio import Case, check_standard, plan_stdio

KINDS = ("calls", "stdio", "pytest")


def plan_tests(tests: Mapping[str, Json], language: str) -> Plan | list[Case] | PytestPlan:
    """The plan of a task's tests; raises DataError if they cannot be run."""
    kind = tests.get("kind")
    if language not in LANGUAGES:
        raise DataError(f"language must be one of {', '.join(LANGUAGES)} (got {language!r})")
    if kind not in KINDS:
        raise DataError(f"tests: kind must be one of {', '.join(KINDS)} (got {kind!r})")
    if kind != "stdio" and language != "python":
        raise DataError(f"{kind} tests are for Python only; use stdio tests for {language}")
    if kind == "calls":
        return plan_calls(tests)
    if kind == "pytest":
        return plan_pytest(tests)
    check_standard(tests.get("standard"), language)
    return plan_stdio(tests)


def groups_of(tests: Mapping[str, Json], language: str) -> set[Group]:
    """The groups that a task has tests of; raises DataError if its tests cannot be run."""
    plan = plan_tests(without_padding(tests), language)
    if isinstance(plan, list):
        return {case.group for case in plan}
    return set((plan.plan if isinstance(plan, PytestPlan) else plan).groups.values())


def has_security_tests(tests: Mapping[str, Json], language: str) -> bool:
    """Whether a task has a security test; raises DataError if its tests cannot be run."""
    return "security" in groups_of(tests, language)


def without_padding(tests: Mapping[str, Json]) -> dict[str, Json]:
    """The tests without keys that are null: tables give every row the keys of all rows.

    `expect: null` stays where there is no `raises`: it expects None.
    """
    plain = _without_nulls(tests)
    for group in GROUPS:
        if isinstance(plain.get(group), list):
            plain[group] = [_without_case_padding(case) for case in plain[group]]
    return plain


def _without_case_padding(case: Any) -> Any:
    if not isinstance(case, Mapping):
        return case
    plain = _without_nulls(case)
    if "expect" in case and not {"raises", "stdout", "lacks", "exit_code"} & set(plain):
        plain["expect"] = case["expect"]
    return plain


def _without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}
