import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seccoderx_lite.core.errors import RecipeError, SandboxError
from seccoderx_lite.sandbox import Sandbox, languages
from seccoderx_lite.sandbox.isolation import PROMISES

IS_ROOT = os.geteuid() == 0
KEPT = dict.fromkeys(PROMISES, "kept")


def described(*without: str) -> dict[str, Any]:
    with Sandbox("limits-only", workers=1, without=without) as sandbox:
        return sandbox.describe()


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    found = described()
    if found["tier"] != "strong":
        pytest.skip(f"this machine gives {found['tier']}: {found['layers']}")
    return found


def test_strong_tier_keeps_every_promise(full: dict[str, Any]) -> None:
    assert full["promises"] == KEPT


def test_without_namespaces_the_tier_is_confined_and_still_keeps_every_promise(
    full: dict[str, Any],
) -> None:
    found = described("namespaces")
    assert found["layers"]["namespaces"] == "switched off"
    assert found["tier"] == "confined"
    assert found["promises"] == KEPT


def test_without_filter_namespaces_alone_are_no_confinement(
    full: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    found = described("seccomp")
    assert (found["tier"], found["promises"]) == ("limits-only", KEPT)
    assert "what a system-call filter would refuse" in caplog.text
    assert "seccomp: switched off; to change it" in "\n".join(found["repairs"])


@pytest.mark.parametrize(
    ("without", "promise", "words"),
    [
        (("namespaces", "landlock"), "files", "read a file outside"),
        (("namespaces", "seccomp"), "network", "UDP"),
        (("namespaces", "landlock", "seccomp"), "network", "TCP"),
        (("namespaces", "landlock", "seccomp", "uid"), "signals", "signalled the trainer"),
    ],
)
def test_report_says_what_a_missing_layer_lets_through(
    full: dict[str, Any], without: tuple[str, ...], promise: str, words: str
) -> None:
    found = described(*without)
    assert found["tier"] == "limits-only"
    assert words in found["promises"][promise]


@pytest.mark.skipif(not IS_ROOT, reason="only root can fail to drop its user")
def test_root_that_keeps_its_user_is_limits_only(full: dict[str, Any]) -> None:
    found = described("uid")
    assert found["tier"] == "limits-only"
    assert "processes (limit 16)" in found["promises"]["processes"]


def test_less_isolation_than_asked_for_is_refused_with_reason_and_way_out() -> None:
    with pytest.raises(SandboxError) as caught:
        Sandbox("confined", without=("namespaces", "landlock"))
    message = str(caught.value)
    assert "'confined' was asked for; this machine gives 'limits-only'" in message
    assert "landlock: switched off; to change it, use Linux 5.13" in message
    assert "files: not protected, a canary read a file outside" in message
    assert "Sandbox(isolation='limits-only')" in message


def test_description_says_how_to_repair_a_weak_tier() -> None:
    repairs = "\n".join(described("namespaces", "landlock")["repairs"])
    assert "landlock: switched off; to change it, use Linux 5.13" in repairs
    assert "files: not protected, a canary read a file outside" in repairs


def test_missing_tool_is_described_with_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "find_tool", lambda names: None)
    found = languages.describe_toolchains.__wrapped__()
    assert found["go"].startswith("missing: no go; apt install golang-go")
    assert all(text.startswith("missing: no ") for text in found.values())


def test_accepting_limits_only_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        described("namespaces", "landlock")
    assert "only sets limits; not protected from the code: files" in caplog.text


def test_results_carry_the_tier() -> None:
    with Sandbox("limits-only", workers=1, without=("namespaces", "landlock")) as sandbox:
        assert sandbox.run({}, ["true"]).isolation == "limits-only"


def test_unknown_tier_is_refused() -> None:
    with pytest.raises(RecipeError, match="confined"):
        Sandbox("medium")


def test_unknown_layer_is_refused() -> None:
    with pytest.raises(RecipeError, match="no layer 'walls'"):
        Sandbox(without=["walls"])


def test_description_names_toolchains_limits_and_workers() -> None:
    found = described()
    assert set(found["toolchains"]) == {"python", "javascript", "c", "cpp", "java", "go"}
    assert found["limits"]["timeout_s"] == 5.0
    assert found["workers"] == 1


@pytest.mark.skipif(not IS_ROOT, reason="only root's own interpreter may be hidden from others")
def test_programs_run_on_the_interpreter_that_the_jail_can_read() -> None:
    tests = {"kind": "stdio", "functionality": [{"stdout": "ok"}]}
    for _ in range(2):
        with Sandbox("limits-only", workers=1, without=("namespaces",)) as sandbox:
            result = sandbox.run_tests("print('ok')", "python", tests)
            assert result.status == "passed", result.output


CONTAINER = """
import json
from seccoderx_lite.sandbox.jail import seccomp, syscalls

# What the default profile of a container refuses, to root too.
refused = ("mount", "umount2", "unshare", "setns", "pivot_root", "open_tree", "move_mount",
           "fsopen", "fsmount", "mount_setattr", "bpf", "perf_event_open", "keyctl", "add_key",
           "request_key")
seccomp._ALWAYS = {name: seccomp._ALWAYS[name] for name in refused}
seccomp._PRCTL = (-1, -1)
container = seccomp.Filter(
    local_sockets=True, path_changes=True, alone=True, landlock_version=9
)
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
container.install()

from seccoderx_lite.sandbox import Sandbox, languages

tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 1}]}
with Sandbox("confined", workers=1) as sandbox:
    result = sandbox.run_tests("def f(): return 1", "python", tests)
    try:
        Sandbox("strong")
        refusal = ""
    except RuntimeError as error:
        refusal = str(error)
    print(json.dumps([sandbox.describe(), result.status, result.isolation, refusal]))
"""


def test_container_that_refuses_namespaces_is_confined_and_says_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONTAINER], capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout, done.stderr
    found, status, isolation, refusal = json.loads(done.stdout)
    if "on" not in (found["layers"]["landlock"], found["layers"]["seccomp"]):
        pytest.skip("this kernel has no Landlock")
    assert "Operation not permitted" in found["layers"]["namespaces"]
    assert found["tier"] == isolation == "confined"
    assert found["promises"] == KEPT
    assert status == "passed"
    assert "namespaces: [Errno 1] Operation not permitted" in refusal
    assert "--security-opt seccomp=unconfined" in refusal
