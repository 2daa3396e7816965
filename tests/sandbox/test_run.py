import os
import time

import pytest

from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.sandbox import Limits, Sandbox


def test_command_sees_its_files_and_stdin(sandbox: Sandbox) -> None:
    files = {"a.txt": "one\n", "sub/b.bin": b"\x00two"}
    result = sandbox.run(files, ["sh", "-c", "cat a.txt sub/b.bin -; ls"], stdin=b"three\n")
    assert (result.status, result.exit_code) == ("passed", 0)
    assert result.stdout == "one\n\x00twothree\na.txt\nsub\n"


@pytest.mark.parametrize(
    ("script", "status", "exit_code"),
    [("exit 3", "failed", 3), ("kill -SEGV $$", "crashed", None), ("no-such-tool", "failed", 127)],
)
def test_end_of_a_command_is_sorted(
    sandbox: Sandbox, script: str, status: str, exit_code: int | None
) -> None:
    result = sandbox.run({}, ["sh", "-c", script])
    assert (result.status, result.exit_code) == (status, exit_code)


def test_missing_command_is_the_commands_failure(sandbox: Sandbox) -> None:
    result = sandbox.run({}, ["no-such-tool"])
    assert result.exit_code == 127
    assert "no-such-tool" in result.stderr


def test_timeout_ends_the_whole_family(sandbox: Sandbox) -> None:
    started = time.monotonic()
    script = "trap '' TERM HUP; sleep 61 & (setsid sleep 62 &) ; sleep 63"
    result = sandbox.run({}, ["sh", "-c", script], Limits(timeout_s=0.5))
    assert result.status == "timeout"
    assert time.monotonic() - started < 3
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        assert words[:2] not in ([b"sleep", b"61"], [b"sleep", b"62"], [b"sleep", b"63"])


def test_output_over_the_limit_ends_the_run(sandbox: Sandbox) -> None:
    result = sandbox.run({}, ["sh", "-c", "yes"], Limits(output_bytes=1000))
    assert result.status == "output_limit"
    assert len(result.stdout) == 1000


READS_EMPTINESS = """
import mmap
empty = mmap.mmap(-1, 1 << 41, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, mmap.PROT_READ)
for place in range(0, 1 << 41, 1 << 21):
    empty[place]
"""


def test_page_tables_count_as_memory_where_the_address_space_is_not_bounded(
    sandbox: Sandbox,
) -> None:
    command = ["python3", "-c", READS_EMPTINESS]
    result = sandbox.run({}, command, Limits(memory_mb=64), reserves_memory=True)
    assert result.status == "memory"


def test_environment_is_an_allow_list(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Sandbox(workers=1) as fresh:
        names = {line.partition("=")[0] for line in fresh.run({}, ["env"]).stdout.splitlines()}
    assert names <= {"PATH", "LANG", "HOME", "TMPDIR", "USER", "PWD", "LC_CTYPE", "_"}


def test_file_names_stay_in_the_folder(sandbox: Sandbox) -> None:
    for name in ("../x", "/etc/x", "a//b", "", "a/../b", "a\0b"):
        with pytest.raises(DataError):
            sandbox.run({name: ""}, ["true"])


def test_closed_sandbox_refuses_work() -> None:
    sandbox = Sandbox(workers=1)
    sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        sandbox.run({}, ["true"])


HOGS = """
import os, time
for _ in range(8 * len(os.sched_getaffinity(0))):
    if os.fork() == 0:
        while True: pass
while True: pass
"""


def test_program_gains_no_time_by_starting_more_processes(sandbox: Sandbox) -> None:
    limits = Limits(timeout_s=1, processes=64)
    result = sandbox.run({}, [sandbox.python, "-c", HOGS], limits)
    assert result.status == "timeout"
    assert result.seconds < 2.5
