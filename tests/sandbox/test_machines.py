"""Tiers and promises on machines with other layers than a workstation."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.sandbox import machines

from seccoderx_lite.sandbox import Limits, Sandbox, bubblewrap
from seccoderx_lite.sandbox.isolation import PROMISES
from seccoderx_lite.sandbox.jail import cgroup
from seccoderx_lite.sandbox.languages import find_tool

KEPT = dict.fromkeys(PROMISES, "kept")
BURST = """
import mmap, os, time
for _ in range(8):
    if os.fork() == 0:
        shared = mmap.mmap(-1, 48 << 20)
        shared.write(bytes(48 << 20))
        time.sleep(9)
time.sleep(9)
"""
COUNT_FORKS = """
import os, time
count = 1
try:
    while count < 40:
        if os.fork() == 0: time.sleep(9)
        count += 1
except OSError: pass
print(count, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("version", [1, 2, 3, 5])
def test_plain_user_without_namespaces_is_confined_with_an_old_landlock_too(version: int) -> None:
    program = machines.OLD_LANDLOCK.replace("{}", str(version)) + machines.DESCRIBE
    found = machines.run_as_plain_user("-c", program, "namespaces")
    if found["layers"]["landlock"] != "on":
        pytest.skip("this kernel has no Landlock")
    assert (found["tier"], found["promises"]) == ("confined", KEPT)


CROWD = """
import json
from helpers.sandbox import attacks
from seccoderx_lite.sandbox import Sandbox

cases = {case.name: case for case in attacks.CASES}
with Sandbox("limits-only", workers=2, without=("namespaces", "cgroup")) as sandbox:
    def submit(name):
        case = cases[name]
        tests = {"kind": "calls", "source": case.tests}
        return sandbox.submit_tests(case.code, "python", tests, case.limits)
    submit("benign: threads").result()
    bomb = submit("fault: fork bomb")
    honest = []
    while not bomb.done():
        honest.append(submit("benign: threads").result().status)
    print(json.dumps([bomb.result().status, sorted(set(honest)), len(honest)]))
"""


@pytest.mark.slow
def test_fork_bomb_is_not_the_failure_of_another_job_where_both_share_one_limit() -> None:
    bomb, honest, count = machines.run_as_plain_user("-c", CROWD)
    assert bomb in ("timeout", "memory")
    assert (honest, count > 3) == (["passed"], True)


@pytest.fixture
def has_bubblewrap() -> None:
    if find_tool(("bwrap",)) is None:
        pytest.skip("bubblewrap (bwrap) is not installed")


@pytest.mark.usefixtures("has_bubblewrap")
def test_bubblewrap_confines_where_own_namespaces_and_landlock_are_missing() -> None:
    program = machines.NO_UNSHARE + machines.DESCRIBE
    found = machines.run_as_plain_user("-c", program, "landlock")
    assert "Operation not permitted" in found["layers"]["namespaces"]
    assert found["layers"]["bubblewrap"] == "on"
    assert (found["tier"], found["promises"], found["status"]) == ("confined", KEPT, "passed")


@pytest.mark.usefixtures("has_bubblewrap")
def test_without_bubblewrap_the_same_machine_only_sets_limits() -> None:
    program = machines.NO_UNSHARE + machines.DESCRIBE
    found = machines.run_as_plain_user("-c", program, "landlock", "bubblewrap")
    assert found["layers"]["bubblewrap"] == "switched off"
    assert found["tier"] == "limits-only"
    assert "read a file outside" in found["promises"]["files"]


def test_bubblewrap_that_does_not_work_is_reported_with_its_own_words() -> None:
    # Not in `tmp_path`, which lies in a folder that only its owner can read.
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "bwrap"
        broken.write_text("#!/bin/sh\necho bwrap: no permission >&2\nexit 1\n")
        broken.chmod(0o755)
        Path(folder).chmod(0o755)
        set_path = f"import os; os.environ['PATH'] = {folder!r}\n"
        no_other = "import seccoderx_lite.sandbox.languages as known; known.SEARCH_PATH = '/none'\n"
        program = set_path + no_other + machines.NO_UNSHARE + machines.DESCRIBE
        found = machines.run_as_plain_user("-c", program)
    assert "bwrap: no permission" in found["layers"]["bubblewrap"]
    assert found["status"] == "passed"


@pytest.mark.parametrize(("mode", "is_bounded"), [(0o755, True), (0o4755, False)])
def test_set_uid_bubblewrap_is_not_asked_for_a_bound_that_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_bounded: bool
) -> None:
    program = tmp_path / "bwrap"
    program.touch()
    program.chmod(mode)
    monkeypatch.setattr(bubblewrap, "find_tool", lambda names: str(program))
    assert ("--size" in bubblewrap.prefix((), "")) is is_bounded


@pytest.fixture
def counted() -> Iterator[Sandbox]:
    with Sandbox("limits-only", workers=1) as sandbox:
        if (why := sandbox.describe().layers["cgroup"]) != "on":
            pytest.skip(f"no cgroup: {why}")
        yield sandbox


def test_cgroup_bounds_the_memory_of_all_processes_together_at_any_time(counted: Sandbox) -> None:
    group = Path(counted.workers[0].group)
    result = counted.run({}, [sys.executable, "-c", BURST], Limits(memory_mb=128))
    assert result.status == "memory"
    peak = group / "jobs" / "memory.peak"
    if peak.exists():
        assert int(peak.read_text()) <= (256 + 64) << 20


def test_cgroup_counts_processes_exactly(counted: Sandbox) -> None:
    found = counted.run({}, [sys.executable, "-c", COUNT_FORKS], Limits(processes=10))
    assert found.stdout.split() == ["10"]


def test_cgroup_is_gone_after_closing() -> None:
    with Sandbox("limits-only", workers=2) as sandbox:
        if (why := sandbox.describe().layers["cgroup"]) != "on":
            pytest.skip(f"no cgroup: {why}")
        for _ in range(4):
            sandbox.run({}, ["true"])
        groups = [Path(worker.group) for worker in sandbox.workers if worker.group]
        assert all(group.is_dir() for group in groups)
        assert groups
    assert not any(group.exists() for group in groups)


def test_cgroup_that_is_not_delegated_is_reported_with_the_reason() -> None:
    try:
        cgroup.remove(cgroup.make("test"))
    except OSError as error:
        with Sandbox("limits-only", workers=1) as sandbox:
            assert sandbox.describe().layers["cgroup"] == str(error)
    else:
        pytest.skip("groups are delegated here")


def test_cgroup_can_be_switched_off_and_the_report_says_so() -> None:
    with Sandbox("limits-only", workers=1, without=("cgroup",)) as sandbox:
        found = sandbox.describe()
    assert found.layers["cgroup"] == "switched off"
    assert found.promises == KEPT
