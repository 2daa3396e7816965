import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers.sandbox import machines

from seccoderx_lite.core.errors import RecipeError, SandboxError
from seccoderx_lite.sandbox import Sandbox, bubblewrap, languages
from seccoderx_lite.sandbox.isolation import PROMISES
from seccoderx_lite.sandbox.sandbox import SandboxDescription
from seccoderx_lite.sandbox.worker import JAIL_FOLDER

IS_ROOT = os.geteuid() == 0
KEPT = dict.fromkeys(PROMISES, "kept")


def described(*without: str) -> SandboxDescription:
    with Sandbox("limits-only", workers=1, without=without) as sandbox:
        return sandbox.describe()


@pytest.fixture(scope="module")
def full() -> SandboxDescription:
    found = described()
    if found.tier != "strong":
        pytest.skip(f"this machine gives {found['tier']}: {found['layers']}")
    return found


def test_strong_tier_keeps_every_promise(full: SandboxDescription) -> None:
    assert full.promises == KEPT


def test_without_namespaces_the_tier_is_confined_and_still_keeps_every_promise(
    full: SandboxDescription,
) -> None:
    found = described("namespaces")
    assert found.layers["namespaces"] == "switched off"
    assert found.tier == "confined"
    assert found.promises == KEPT


def test_without_filter_namespaces_alone_do_not_confine(
    full: SandboxDescription, caplog: pytest.LogCaptureFixture
) -> None:
    found = described("seccomp")
    assert (found.tier, found.promises) == ("limits-only", KEPT)
    assert "only a system-call filter can block" in caplog.text
    assert "seccomp: switched off; to enable it" in "\n".join(found.repairs)


def test_self_test_reports_what_an_unprotected_process_can_do(tmp_path: Path) -> None:
    """Only attacks that succeed without a sandbox prove anything by failing inside one."""
    (tmp_path / "file").write_text("target")
    targets = {"token": f"free-{os.getpid()}", "pid": os.getpid(), "file": str(tmp_path / "file")}
    targets |= {"memory_mb": 1, "tcp": 1, "udp": 1, "unix": "/nowhere", "abstract": "\0nowhere"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(JAIL_FOLDER / "self_test.py")],
        input=json.dumps(targets),
        env={"PATH": "/usr/bin:/bin", "HF_TOKEN": "secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    broken = json.loads(done.stdout)["broken"]
    assert {"secrets", "files", "signals", "memory"} <= set(broken)
    assert "found variables of the trainer in its own environment" in broken["secrets"]
    assert len(broken["files"]) == 6
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.read_text().startswith(f"sleep-{targets['token']}"):
                os.kill(int(entry.parent.name), signal.SIGKILL)


@pytest.mark.parametrize(
    ("without", "promise", "words"),
    [
        (("namespaces", "landlock"), "files", "read a file outside"),
        (("namespaces", "seccomp"), "network", "UDP"),
        (("namespaces", "landlock", "seccomp"), "network", "TCP"),
        (("namespaces", "landlock", "seccomp", "uid"), "signals", "sent a signal to the trainer"),
    ],
)
def test_report_says_what_a_missing_layer_lets_through(
    full: SandboxDescription, without: tuple[str, ...], promise: str, words: str
) -> None:
    found = described(*without)
    assert found.tier == "limits-only"
    assert words in found.promises[promise]


@pytest.mark.skipif(not IS_ROOT, reason="only root can fail to drop its user")
def test_root_that_keeps_its_user_is_limits_only(full: SandboxDescription) -> None:
    found = described("uid")
    assert found.tier == "limits-only"
    assert "processes (limit 16)" in found.promises["processes"]


def test_weaker_tier_than_requested_is_refused_with_reason_and_remedy() -> None:
    with pytest.raises(SandboxError) as caught:
        Sandbox("confined", without=("namespaces", "landlock"))
    message = str(caught.value)
    assert "'confined' was requested, but this machine offers 'limits-only'" in message
    assert "landlock: switched off; to enable it, use Linux 5.13" in message
    assert "files: not protected; the self-test read a file outside" in message
    assert "Sandbox(isolation='limits-only')" in message


def test_description_says_how_to_repair_a_weak_tier() -> None:
    repairs = "\n".join(described("namespaces", "landlock").repairs)
    assert "landlock: switched off; to enable it, use Linux 5.13" in repairs
    assert "files: not protected; the self-test read a file outside" in repairs


def test_missing_tool_is_described_with_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "find_tool", lambda names: None)
    found = languages.describe_toolchains.__wrapped__()
    assert found["go"].startswith("missing: go; apt install golang-go")
    assert all(text.startswith("missing: ") for text in found.values())


def test_accepting_limits_only_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        described("namespaces", "landlock")
    assert "limits-only: not protected from the code under test: files" in caplog.text


def test_results_carry_the_tier() -> None:
    with Sandbox("limits-only", workers=1, without=("namespaces", "landlock")) as sandbox:
        assert sandbox.run({}, ["true"]).isolation == "limits-only"


def test_unknown_tier_is_refused() -> None:
    with pytest.raises(RecipeError, match="confined"):
        Sandbox("medium")


def test_unknown_layer_is_refused() -> None:
    with pytest.raises(RecipeError, match="unknown layer 'walls'"):
        Sandbox(without=["walls"])


def test_description_names_toolchains_limits_and_workers() -> None:
    found = described()
    assert set(found.toolchains) == {"python", "javascript", "c", "cpp", "java", "go"}
    assert found.limits.timeout_s == 5.0
    assert found.workers == 1


@pytest.mark.skipif(not IS_ROOT, reason="only root's own interpreter may be hidden from others")
def test_programs_run_on_the_interpreter_that_the_jail_can_read() -> None:
    tests = {"kind": "stdio", "functionality": [{"stdout": "ok"}]}
    for _ in range(2):
        with Sandbox("limits-only", workers=1, without=("namespaces",)) as sandbox:
            result = sandbox.run_tests("print('ok')", "python", tests)
            assert result.status == "passed", result.output


CONTAINER = (
    machines.CONTAINER
    + """
import dataclasses, json
from seccoderx_lite.sandbox import Sandbox

tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 1}]}
with Sandbox("confined", workers=1) as sandbox:
    result = sandbox.run_tests("def f(): return 1", "python", tests)
    try:
        Sandbox("strong")
        refusal = ""
    except RuntimeError as error:
        refusal = str(error)
    found = dataclasses.asdict(sandbox.describe())
    print(json.dumps([found, result.status, result.isolation, refusal]))
"""
)


def test_container_that_refuses_namespaces_is_confined_and_says_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONTAINER],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
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


LOOK_AROUND = """
import os, sys, tempfile
folder = sys.argv[1]
print(open(folder + "/inner/data").read())
for place in ("/tmp", "/dev/shm", os.environ["TMPDIR"]):
    os.mkdir(place + "/made")
    open(place + "/made/file", "w").close()
    os.rename(place + "/made", place + "/renamed")
    os.remove(place + "/renamed/file")
    os.rmdir(place + "/renamed")
tempfile.NamedTemporaryFile().close()
parent = os.path.dirname(folder)
own = os.environ["TMPDIR"] + "/" + os.path.basename(parent)
for change in (
    lambda: open(folder + "/inner/data", "w"),
    lambda: open(folder + "/new", "w"),
    lambda: os.rename(folder, folder + "2"),
    lambda: os.rename(parent, "/tmp/other"),
    lambda: os.rename(own, own + "2"),
    lambda: os.rmdir(own),
    lambda: os.rename("/tmp", "/other"),
):
    try:
        change()
    except OSError:
        continue
    print("changed")
"""


@pytest.mark.parametrize("parent", ["/tmp", "/opt", "~", "/dev/shm"])
def test_jail_looks_the_same_wherever_its_tools_are(parent: str) -> None:
    place = os.path.expanduser(parent)
    if not os.access(place, os.W_OK):
        pytest.skip(f"{place} cannot be written")
    with tempfile.TemporaryDirectory(dir=place) as outer:
        folder = Path(outer, "environment")
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "data").write_text("installed")
        Path(outer).chmod(0o755)
        with Sandbox("limits-only", workers=1, readable=[str(folder)]) as sandbox:
            if sandbox.isolation.tier != "strong":
                pytest.skip("without namespaces /tmp is not the job's own")
            result = sandbox.run({}, [sandbox.python, "-c", LOOK_AROUND, str(folder)])
        assert (folder / "inner" / "data").read_text() == "installed"
    assert (result.status, result.stdout) == ("passed", "installed\n"), result.stderr


def test_bubblewrap_shows_folders_below_tmp_so_that_no_parent_can_be_replaced() -> None:
    shown = bubblewrap._show_folders(["/opt/a", "/tmp/b/c", "/tmp/b/d", "/tmp/e"])
    assert shown[:2] == ["--tmpfs", "/tmp/b"] and shown[-2:] == ["--remount-ro", "/tmp/b"]
    assert shown.count("--tmpfs") == 1
