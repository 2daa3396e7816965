"""Which files are read, why others are not, and what changed since a git reference."""

import os
import subprocess

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data.source_files import Changes, Skipped, SourceFile, find_sources


@pytest.fixture
def write(tmp_path):
    def write_file(name, content="x = 1\n"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def names(found, root):
    return [str(each.path.relative_to(root)) for each in found]


def test_folders_give_their_source_files_in_order_of_name(write, tmp_path):
    for name in (
        "b.py",
        "a/x.go",
        "a/y.cpp",
        "notes.txt",
        ".hidden/z.py",
        "node_modules/m.js",
        ".z.py",
    ):
        write(name)
    (tmp_path / "link.py").symlink_to(tmp_path / "b.py")
    found = list(find_sources([tmp_path, tmp_path / "b.py"]))
    assert names(found, tmp_path) == ["b.py", "a/x.go", "a/y.cpp"]
    assert [each.language for each in found] == ["python", "go", "cpp"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.py", b"x\0y", "is binary"),
        ("a.py", b"x = '\xff'", "is not UTF-8 (byte 6)"),
        ("a.py", b"#" * 1_000_001, "too large: 1000001 bytes, at most 1000000"),
        ("a.rs", b"fn main() {}", "its language is not supported (.rs)"),
        ("Makefile", b"all:", "its language is not supported (no suffix)"),
    ],
)
def test_what_is_no_source_is_skipped_with_a_reason(write, name, content, reason):
    path = write(name, content)
    assert list(find_sources([path])) == [Skipped(path, reason)]


def test_a_file_that_may_not_be_read_is_skipped(write, monkeypatch):
    path = write("a.py")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    assert list(find_sources([path])) == [Skipped(path, "cannot be read: Permission denied")]


def test_a_pipe_is_skipped_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.py")
    (found,) = find_sources([tmp_path])
    assert isinstance(found, Skipped) and found.reason == "is not a regular file"


def test_a_byte_order_mark_is_no_part_of_the_code(write):
    (found,) = find_sources([write("a.py", b"\xef\xbb\xbfx = 1\n")])
    assert isinstance(found, SourceFile) and found.code == "x = 1\n"


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        list(find_sources([tmp_path / "nowhere"]))


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(write, tmp_path):
    write("a.py", "one\ntwo\nthree\nfour\n")
    write("same.py")
    write('odd "näme".py', "one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_changed_added_and_new_lines_are_reported(repository, write):
    changed = write("a.py", "one\nTWO\nthree\nfour\nfive\nsix\n")
    odd, new = write('odd "näme".py', "one\ntwo\n"), write("new.py")
    changes = Changes("HEAD")
    assert changes.lines_of(changed) == [(2, 2), (5, 6)]
    assert changes.lines_of(odd) == [(2, 2)]
    assert changes.lines_of(new) is None
    assert changes.lines_of(repository / "same.py") == []


def test_removed_lines_touch_their_neighbours(repository, write):
    assert Changes("HEAD").lines_of(write("a.py", "one\nfour\n")) == [(1, 2)]


def test_committed_changes_count_too(repository, write):
    path = write("a.py", "ONE\ntwo\nthree\nfour\n")
    git(repository, "commit", "-qam", "second")
    assert Changes("HEAD").lines_of(path) == []
    assert Changes("HEAD~1").lines_of(path) == [(1, 1)]


@pytest.mark.parametrize("reference", ["nosuch", "--output=x"])
def test_an_unknown_reference_is_an_error(repository, reference):
    with pytest.raises(DataError, match=r"--since: .*(Needed|needed|revision)"):
        Changes(reference).lines_of(repository / "a.py")


def test_no_repository_is_an_error(write):
    with pytest.raises(DataError, match="not a git repository"):
        Changes("HEAD").lines_of(write("a.py"))


def test_a_diff_program_of_the_repository_is_not_run(repository, write):
    git(repository, "config", "diff.external", "touch ran; false")
    write(".gitattributes", "*.py diff=evil\n")
    git(repository, "config", "diff.evil.textconv", "touch ran; false")
    assert Changes("HEAD").lines_of(write("a.py", "ONE\ntwo\nthree\nfour\n")) == [(1, 1)]
    assert not (repository / "ran").exists()
