import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.sandbox import Limits, Sandbox
from seccoderx_lite.sandbox.jail.remove_tree import remove_tree
from seccoderx_lite.sandbox.sandbox import WAITING_JOBS


def running(words: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if words in text:
            found.append(text)
    return found


def wait_until_gone(words: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while running(words) and time.monotonic() < end:
        time.sleep(0.05)
    assert running(words) == []


def test_deep_locked_and_oddly_named_folders_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "job"
    target.mkdir()
    folder = os.open(target, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    locked = target / "-rf \n*"
    locked.mkdir()
    (locked / "file").write_text("x")
    locked.chmod(0)
    os.mkfifo(target / "pipe")
    remove_tree(str(target))
    assert list(tmp_path.iterdir()) == []


def test_removing_never_follows_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    target = tmp_path / "job"
    target.mkdir()
    (target / "link").symlink_to(outside)
    (target / "sub").mkdir()
    (target / "sub" / "link").symlink_to(outside)
    remove_tree(str(target))
    assert (outside / "kept").read_text() == "x"
    assert not target.exists()


@pytest.mark.parametrize("without", [(), ("namespaces",)])
def test_killed_trainer_takes_everything_with_it(without: tuple[str, ...]) -> None:
    mark = f"7{os.getpid()}{len(without)}"
    # The mark is passed in the environment: a command line with it would look like the job's.
    program = f"""
import os
from seccoderx_lite.sandbox import Sandbox, Limits
sandbox = Sandbox("limits-only", workers=1, without={without!r})
print(sandbox.workers[0].report["folder"], flush=True)
nap = "sleep " + os.environ["MARK"]
sandbox.run({{}}, ["sh", "-c", f"(setsid {{nap}} &) ; {{nap}}"], Limits(timeout_s=60))
"""
    trainer = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "MARK": mark},
        cwd=Path(__file__).parents[2],
    )
    assert trainer.stdout
    folder = trainer.stdout.readline().decode().strip()
    assert bool(folder) == bool(without)
    end = time.monotonic() + 60
    while not running(f"sleep {mark}") and time.monotonic() < end:
        time.sleep(0.05)
    assert running(f"sleep {mark}")
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    wait_until_gone(f"sleep {mark}")
    end = time.monotonic() + 20
    while folder and Path(folder).exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not folder or not Path(folder).exists()


def test_closing_cancels_what_has_not_begun() -> None:
    sandbox = Sandbox("limits-only", workers=1)
    tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 1}]}
    code = "import time\ndef f(): time.sleep(0.3); return 1"
    futures = [sandbox.submit_tests(code, "python", tests) for _ in range(20)]
    futures[0].result()
    sandbox.close()
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) >= 15


def test_submitting_waits_while_too_many_jobs_are_unfinished() -> None:
    tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 1}]}
    code = "import time\ndef f(): time.sleep(1); return 1"
    with Sandbox("limits-only", workers=1) as sandbox:
        first = sandbox.submit_tests(code, "python", tests)
        for _ in range(WAITING_JOBS - 1):
            sandbox.submit_tests("", "python", {})
        assert not first.done()
        sandbox.submit_tests("", "python", {})
        assert first.done()


def test_starter_that_dies_is_replaced(sandbox: Sandbox) -> None:
    with Sandbox("limits-only", workers=1) as fresh:
        assert fresh.run({}, ["true"]).status == "passed"
        process = fresh.workers[0].process
        assert process is not None
        process.kill()
        process.wait()
        assert fresh.run({}, ["true"]).status == "passed"


def test_starter_that_was_killed_leaves_no_folder() -> None:
    with Sandbox("limits-only", workers=1, without=("namespaces",)) as sandbox:
        folder = sandbox.workers[0].report["folder"]
        process = sandbox.workers[0].process
        assert process is not None
        assert Path(folder).is_dir()
        process.kill()
        process.wait()
    assert not Path(folder).exists()


def test_nothing_is_left_open_in_the_trainer() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    with Sandbox("limits-only", workers=1) as sandbox:
        sandbox.run({}, ["true"])
        during = descriptors()
        for _ in range(5):
            sandbox.run({}, ["true"])
        assert descriptors() == during
    assert descriptors() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"memory_mb": 1}, "memory_mb"),
        ({"output_bytes": -1}, "output_bytes"),
        ({"processes": 0}, "processes"),
        ({"timeout_s": 0, "processes": 0}, "(?s)timeout_s.*processes"),
    ],
)
def test_limits_that_make_no_sense_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Limits(**changes)  # type: ignore[arg-type]
