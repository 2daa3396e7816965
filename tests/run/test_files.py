"""Writing files: atomically where that is possible, and never in place of a pipe or device."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seccoderx_lite.run.files import check_writable, replacing, write_text


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    target = tmp_path / "real" / "out.txt"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    (tmp_path / "middle").symlink_to("real/out.txt")
    (tmp_path / "link").symlink_to("middle")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_link_to_nothing_makes_its_target(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "out.txt")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "out.txt").read_text() == "new"


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "text\n")
    reader.join(10)
    assert read == ["text\n"] and pipe.is_fifo()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_stays_a_device(device):
    before = os.stat(device)
    if device == "/dev/full":
        with pytest.raises(OSError, match="No space"):
            write_text(Path(device), "x")
    else:
        write_text(Path(device), "x")
    assert os.stat(device).st_rdev == before.st_rdev


def test_standard_output_is_written_to_whatever_it_is(tmp_path):
    code = (
        "from pathlib import Path; from seccoderx_lite.run.files import write_text; "
        "write_text(Path('/dev/stdout'), 'text')"
    )
    log = tmp_path / "log"
    log.write_text("before ")
    with log.open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert log.read_text() == "before text" and piped.stdout == b"text"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "out").write_text("old")

    def fail():
        with replacing(tmp_path / "out") as file:
            file.write("new")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "old"


def test_whether_a_file_can_be_written_is_found_out_without_changing_it(tmp_path):
    (tmp_path / "out").write_text("old")
    check_writable(tmp_path / "out")
    check_writable(tmp_path / "new" / "out")
    check_writable(Path("/dev/null"))
    assert (tmp_path / "out").read_text() == "old" and not (tmp_path / "new" / "out").exists()
    (tmp_path / "loop").symlink_to("loop")
    for path, number in (
        (tmp_path, errno.EISDIR),
        (tmp_path / "loop", errno.ELOOP),
        (Path("/proc/nothing"), errno.ENOENT),
        (tmp_path / ("a" * 300), errno.ENAMETOOLONG),
        (tmp_path / "out" / "below", None),
    ):
        with pytest.raises(OSError) as caught:
            check_writable(path)
        assert number in (None, caught.value.errno)
