"""Candidates that cheat, break things or pry, and the result that each must have."""

from collections.abc import Iterator

from helpers.sandbox.attacks.benign import BENIGN
from helpers.sandbox.attacks.case import SECRET_TESTS, Case
from helpers.sandbox.attacks.faults import FAULTS
from helpers.sandbox.attacks.hacks import HACKS
from helpers.sandbox.attacks.leaks import LEAKS
from helpers.sandbox.attacks.objects import OBJECTS

from seccoderx_lite.sandbox import Sandbox

__all__ = ["CASES", "CONTROLS", "HACKS", "SECRET_TESTS", "Case", "complaints"]

RIGHT = """
def solve(n):
    if n < 0: raise ValueError("negative")
    return {3: 904117, 5: "s3cr3t-702231"}[n]
"""
CONTROLS = [
    Case("control: right code passes", RIGHT, passes=(2, 1), statuses=("passed",)),
    Case("control: wrong code fails", "def solve(n): return 0", statuses=("failed",)),
]
CASES = [*HACKS, *OBJECTS, *FAULTS, *LEAKS, *BENIGN]
_TIERS = ("limits-only", "confined", "strong")


def complaints(sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    """Run every case, each followed by a control; yields (name, what is wrong with it)."""
    tier = sandbox.isolation.tier
    cases = [case for case in CASES if _TIERS.index(case.tier) <= _TIERS.index(tier)]
    futures = []
    for number, case in enumerate(cases):
        for one in (case, CONTROLS[number % 2]):
            tests = {"kind": "calls", "source": one.tests}
            futures.append((one, sandbox.submit_tests(one.code, "python", tests, one.limits)))
    for one, future in futures:
        yield one.name, one.complaint(future.result())
