import subprocess
import sys

import pytest
from helpers.sandbox import attacks, machines

from seccoderx_lite.sandbox import Sandbox

_found: dict[str, str] = {}


@pytest.fixture(scope="module")
def found(sandbox: Sandbox) -> dict[str, str]:
    """All cases run once, together; each test below looks at its own."""
    if not _found:
        _found.update(attacks.complaints(sandbox))
    return _found


@pytest.mark.parametrize("name", [case.name for case in (*attacks.CASES, *attacks.CONTROLS)])
def test_attack_gains_nothing_and_honest_code_passes(found: dict[str, str], name: str) -> None:
    if name not in found:
        pytest.skip("only promised in a stronger tier")
    assert found[name] == ""


def test_there_are_at_least_eighty_cases_with_unique_names() -> None:
    names = {case.name for case in attacks.CASES}
    assert len(names) == len(attacks.CASES) >= 80


def test_attack_that_searches_for_the_answer_finds_one_left_in_memory() -> None:
    """The search through stack and heap is only evidence if it can succeed."""
    case = next(case for case in attacks.HACKS if "stack and in the heap" in case.name)
    program = (
        f"import sys\nleft_in_memory = sys.stdin.read()\n{case.code}\nprint(solve(3), solve(5))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        input=attacks.SECRET_TESTS,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["904117", "s3cr3t-702231"]


@pytest.mark.slow
@pytest.mark.parametrize("without", [(), ("namespaces",)])
def test_attacks_gain_nothing_as_a_plain_user(without: tuple[str, ...]) -> None:
    found = machines.run_as_plain_user("-m", "helpers.sandbox.attacks", *without)
    assert found["failed"] == []


@pytest.mark.slow
def test_attacks_gain_nothing_where_namespaces_are_refused() -> None:
    with Sandbox("confined", workers=2, without=("namespaces",)) as sandbox:
        assert [text for _, text in attacks.complaints(sandbox) if text] == []
