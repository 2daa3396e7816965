"""Which files are read, why others are not, and what changed since a git reference."""

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data.source_files import Skipped, SourceFile, find_sources


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
    (found,) = find_sources([path])
    assert isinstance(found, Skipped) and (found.path, found.reason) == (path, reason)
    assert found.lines == (0 if "binary" in reason else 1)


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


NAMES = {
    "a.cjs": "javascript", "a.jsx": "javascript", "a.mts": "javascript", "a.tsx": "javascript",
    "a.hh": "cpp", "a.hxx": "cpp", "a.ipp": "cpp", "a.inl": "cpp", "a.tpp": "cpp", "a.C": "cpp",
    "a.pyw": "python", "SETUP.PY": "python", "a.H": "cpp", "a.c": "c",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_usual_ending_is_known(write, tmp_path, name):
    write(name)
    (found,) = find_sources([tmp_path])
    assert found.language == NAMES[name]


@pytest.mark.parametrize(
    ("first_line", "language"),
    [
        ("#!/usr/bin/env python3", "python"),
        ("#!/usr/bin/python2.7 -E", "python"),
        ("#!/usr/bin/env -S node --no-warnings", "javascript"),
        ("#!/bin/sh", None),
        ("# python", None),
    ],
)
def test_a_script_without_ending_has_the_language_of_its_first_line(
    write, tmp_path, first_line, language
):
    write("tool", first_line + "\nx\n")
    counts = Counter()
    found = [each.language for each in find_sources([tmp_path], counts)]
    assert found == ([language] if language else [])
    assert counts["in other languages"] == (language is None)


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("namespace a { int f(); }\n", "cpp"),
        ("class A;\ntemplate <class T> T f(T a);\n", "cpp"),
        ("struct A { int &x; };\n", "cpp"),
        ("#ifdef __cplusplus\nnamespace a { }\n#endif\nint f(char *a);\n", "c"),
        ('#ifdef __cplusplus\nextern "C" {\n#endif\nint f(void);\n', "c"),
        ("int class = 1;\nint new(int delete) { return delete; }\n", "c"),
    ],
)
def test_a_header_is_cpp_if_its_code_is(write, code, language):
    (found,) = find_sources([write("a.h", code)])
    assert found.language == language


def test_what_is_passed_over_is_counted(write, tmp_path):
    for name in ("a.py", "b.rs", "README", ".b.py", "build/c.py", "out.py", "src/d.py"):
        write(name)
    write(".gitignore", "build/\nout.py\n")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    counts = Counter()
    assert names(find_sources([tmp_path], counts), tmp_path) == ["a.py", "src/d.py"]
    assert dict(counts) == {
        "in other languages": 3,
        "links": 1,
        "hidden": 1,
        "ignored by git": 2,
    }
    asked_for = [tmp_path / "build", tmp_path / "out.py"]
    assert names(find_sources(asked_for), tmp_path) == ["build/c.py", "out.py"]


def test_a_name_that_is_too_long_is_an_error():
    with pytest.raises(DataError, match="no such file or folder"):
        list(find_sources([Path("a" * 5000)]))


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        list(find_sources([tmp_path / "nowhere"]))
