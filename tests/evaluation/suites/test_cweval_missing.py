"""What a machine lacks for a task of CWEval is named, with one command."""

import pytest

from seccoderx_lite.evaluation.suites.cweval_missing import missing_for


@pytest.mark.parametrize(
    ("language", "source", "output", "command"),
    [
        ("c", "#include <jwt.h>\n", "undefined reference", "apt install libjwt-dev"),
        ("cpp", '#include "libxml/parser.h"', "error", "apt install libxml2-dev"),
        (
            "go",
            "",
            'a.go:4:2: cannot find package "github.com/x/jwt" in any of:',
            "go get github.com/x/jwt",
        ),
        ("go", "", "no required module provides package github.com/x/y: go.mod", "github.com/x/y"),
        (
            "go",
            "",
            "no required module provides package golang.org/x/crypto/bcrypt; to add it:",
            "go get golang.org/x/crypto/bcrypt",
        ),
        ("go", "", "github.com/x/y@v1.2.3: missing go.sum entry; to add it:", "get github.com/x/y"),
        (
            "go",
            "",
            "github.com/x/y@v1.2.3: module lookup disabled by GOPROXY=off",
            "github.com/x/y",
        ),
        (
            "go",
            "",
            "panic: Binary was compiled with 'CGO_ENABLED=0', x requires cgo",
            "install gcc",
        ),
        ("go", "", 'cgo: C compiler "gcc" not found: exec: "gcc"', "apt install gcc libc6-dev"),
        ("go", "", "x.go:4:10: fatal error: sqlite3.h: No such file", "libsqlite3-dev"),
        (
            "javascript",
            "",
            "Error: Cannot find module 'jsonwebtoken'",
            "npm install -g jsonwebtoken",
        ),
        ("python", "", "ModuleNotFoundError: No module named 'lxml'", "run: pip install"),
        ("go", "", "sh: gofmt: not found", "apt install gofmt"),
    ],
)
def test_the_command_that_mends_it_is_named(language, source, output, command):
    assert command in missing_for(language, source, output)


@pytest.mark.parametrize(
    ("language", "source", "output", "linked"),
    [
        ("c", "#include <jwt.h>\n", "error: expected ';'", ("-ljwt",)),
        ("c", "#include <stdio.h>\n", "error: expected ';'", ()),
        ("javascript", "", "Error: Cannot find module './local'", ()),
        ("python", "", "AssertionError", ()),
        ("python", "", "ModuleNotFoundError: No module named 'cwe_022_0_task'", ()),
        ("go", "", "undefined: x", ()),
    ],
)
def test_a_fault_of_the_solution_is_not_explained_away(language, source, output, linked):
    assert missing_for(language, source, output, linked) == ""
