"""Languages that cannot start in the jail are unscored, and tests that cannot run are named."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.sandbox import machines

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Language
from seccoderx_lite.sandbox import Limits, Sandbox, languages
from seccoderx_lite.sandbox.controls import Controls
from seccoderx_lite.sandbox.jail import private_root
from seccoderx_lite.sandbox.languages import TOOLS, find_tool
from seccoderx_lite.sandbox.planning import plan_tests, without_padding

PRINTS = {"kind": "stdio", "functionality": [{"stdout": "1"}]}
TIERS = [
    (),
    ("namespaces",),
    ("namespaces", "uid"),
    ("namespaces", "landlock", "seccomp", "uid"),
]
CHECK = """
import json, sys
from seccoderx_lite.sandbox import Sandbox
with Sandbox("limits-only", workers=1) as sandbox:
    print(json.dumps({"tier": sandbox.isolation.tier, **sandbox.check_languages()}))
"""


def installed() -> list[Language]:
    return [name for name, needs in TOOLS.items() if all(find_tool(names) for names in needs)]


@pytest.mark.parametrize("without", TIERS, ids=["strong", "confined", "as-root", "limits-only"])
def test_every_installed_language_works_in_every_tier(without: tuple[str, ...]) -> None:
    with Sandbox("limits-only", without=without) as sandbox:
        assert sandbox.check_languages() == dict.fromkeys(installed(), "works")


def test_every_installed_language_works_in_a_container_as_root() -> None:
    program = machines.CONTAINER + CHECK
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert '"works"' in done.stdout, done.stderr
    assert done.stdout.count('"works"') == len(installed()), done.stdout


def test_every_installed_language_works_in_a_container_as_a_plain_user() -> None:
    found = machines.run_as_plain_user("-c", machines.CONTAINER + CHECK)
    assert found.pop("tier") == "confined"
    assert set(found.values()) == {"works"}


def test_jailed_programs_may_read_the_openssl_configuration_but_no_private_key() -> None:
    shown = private_root.system_paths()
    assert "/etc/ssl/openssl.cnf" in shown
    assert not [path for path in shown if re.search(r"private|shadow|^/etc$|^/etc/ssl$", path)]


def broken_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho 'node: OpenSSL configuration error' >&2\nexit 13\n")
    node.chmod(0o755)
    os.chmod(tmp_path, 0o755)
    real = languages.tools_for
    tools = {"javascript": [str(node)]}
    monkeypatch.setattr(languages, "tools_for", lambda name: tools.get(name) or real(name))


def test_tool_that_cannot_start_is_unscored_with_its_own_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_node(tmp_path, monkeypatch)
    with Sandbox("limits-only", workers=1, readable=[str(tmp_path)]) as sandbox:
        with pytest.raises(SandboxError, match=r"(?s)javascript.*OpenSSL configuration error"):
            sandbox.run_tests("console.log(1)", "javascript", PRINTS)
        assert "OpenSSL configuration error" in sandbox.check_languages()["javascript"]
        assert sandbox.run_tests("print(1)", "python", PRINTS).status == "passed"


def test_limit_too_small_for_a_language_to_start_is_not_the_fault_of_the_code(
    sandbox: Sandbox,
) -> None:
    if find_tool(("java",)) is None:
        pytest.skip("java is not installed")
    code = "public class Main { public static void main(String[] a) { System.out.print(1); } }"
    with pytest.raises(SandboxError, match=r"memory_mb|java program fails"):
        sandbox.run_tests(code, "java", PRINTS, Limits(timeout_s=20, memory_mb=64, processes=4))


def test_control_runs_once_per_language_and_limits(sandbox: Sandbox) -> None:
    runs: list[str] = []

    def run(code: str, language: Language, tests: object, limits: Limits) -> object:
        runs.append(language)
        return sandbox.run_tests(
            "print(42)", "python", {**PRINTS, "functionality": [{"stdout": "42"}]}
        )

    controls = Controls(run, "strong")  # type: ignore[arg-type]
    for limits in (Limits(), Limits(), Limits(timeout_s=9)):
        controls.require("python", "stdio", limits)
    assert runs == ["python", "python"]


def calls(**keys: object) -> dict[str, object]:
    return {"kind": "calls", "entry_point": "f", **keys}


def program(**case: object) -> dict[str, object]:
    return {"kind": "stdio", "functionality": [case]}


@pytest.mark.parametrize(
    ("tests", "language", "words"),
    [
        (calls(functionalty=[{"expect": 1}]), "python", "functionalty"),
        (calls(functionality={"args": []}), "python", "list"),
        (calls(functionality=[{"raises": ["KeyError"]}]), "python", "raises must be"),
        (calls(functionality=[{"expect": 1}]), "go", "Python only"),
        (program(stdin=3, stdout="3"), "c", "stdin must be text"),
        (program(args="a", stdout="3"), "c", "args must be"),
        (program(exit_code="1"), "c", "exit_code must be"),
        (program(exit_code=1, files=["a"]), "c", "files must"),
        (program(exit_code=1, files={"../a": ""}), "c", "inside the working folder"),
        ({**PRINTS, "standard": "c++17"}, "c", "standard must be one of c"),
        ({**PRINTS, "standard": "c11"}, "java", "for C and C"),
        ({"kind": "pytest", "source": "def test_a(): pass", "files": "x"}, "python", "files must"),
    ],
)
def test_wrong_tests_are_found_without_running_anything(
    tests: dict[str, object], language: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        plan_tests(tests, language)


def test_padding_of_tables_is_dropped_but_an_expected_none_stays() -> None:
    padded = {
        "kind": "calls", "source": None, "entry_point": "f",
        "functionality": [
            {"args": [1], "kwargs": None, "expect": 2, "raises": None, "stdin": None},
            {"args": [None], "expect": None, "raises": None},
            {"args": None, "expect": None, "raises": "ValueError"},
        ],
        "security": None,
    }  # fmt: skip
    plain = without_padding(padded)
    assert plain == {
        "kind": "calls",
        "entry_point": "f",
        "functionality": [
            {"args": [1], "expect": 2},
            {"args": [None], "expect": None},
            {"raises": "ValueError"},
        ],
    }
    plan_tests(plain, "python")
    program = {
        "kind": "stdio",
        "entry_point": None,
        "functionality": [{"stdout": "1", "expect": None}],
    }
    plan_tests(without_padding(program), "python")
