"""What this machine lacks for a CWEval task, from the output of its reference solution.

Debian's names of the packages. A solution that fails for another reason is the benchmark's or our
fault, and is not explained away here.
"""

import re
from collections.abc import Mapping

from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.records import Language

LIBRARIES: Mapping[str, str] = {
    "sqlite3": "libsqlite3-dev",
    "jwt": "libjwt-dev",
    "ssl": "libssl-dev",
    "crypto": "libssl-dev",
    "archive": "libarchive-dev",
    "xml2": "libxml2-dev",
}
"""Libraries that the benchmark's C and C++ tasks link, with the packages that have them."""
_HEADERS: Mapping[str, str] = {
    "sqlite3": r"\bsqlite3\.h",
    "jwt": r"\bjwt\.h",
    "ssl": r"\bopenssl/",
    "archive": r"\barchive(?:_entry)?\.h",
    "xml2": r"\blibxml/",
}
_GO_PATH = r"((?:[\w-]+\.)+[a-z]+/[\w./-]*\w)"
_GO_MODULE = re.compile(
    r"(?:cannot find (?:package|module providing package)|no required module provides package|"
    rf"cannot find module for path|could not import) \"?{_GO_PATH}|"
    rf"{_GO_PATH}(?:@v[^:\s]*)?: (?:missing go\.sum entry|module lookup disabled|reading )"
)
_NO_CGO = re.compile(
    r"requires cgo|C compiler \"[^\"]*\" not found|build constraints exclude all Go files"
)
_NO_HEADER = re.compile(r"fatal error: ([\w./-]+\.h): No such file")
_NODE_MODULE = re.compile(r"Cannot find module '([^'./][^']*)'")
_PYTHON_MODULE = re.compile(r"No module named '(?!cwe_)([\w.]+)'")
_NO_PROGRAM = re.compile(
    r"FileNotFoundError: \[Errno 2\] No such file or directory: '([\w+-]+)'|"
    r"(?:exec|sh|bash|spawn):? \"?([\w+-]+)\"?:? (?:command not found|not found|ENOENT|executable)"
)


def missing_for(
    language: Language,
    source: str,
    output: str,
    linked: tuple[str, ...] = (),
    go_get: str = "go get",
) -> str:
    """Return what is missing and the command that installs it, "" if nothing shows.

    `linked` are the linker's flags for the libraries that this machine has, and `go_get` is the
    command that gets a Go module.
    """
    if language in ("c", "cpp"):
        return _missing_library(source, linked)
    if language == "go" and (what := _missing_in_go(output, go_get)):
        return what
    if language == "javascript" and (found := _NODE_MODULE.search(output)):
        return f"the Node package {found[1]} is missing; run: npm install -g {found[1]}"
    if language == "python" and (found := _PYTHON_MODULE.search(output)):
        return f"the package {found[1]} is missing; run: {install_command('cweval')}"
    if found := _NO_PROGRAM.search(output):
        name = found[1] or found[2]
        return f"the program {name} is missing; run: apt install {name}"
    return ""


def _missing_in_go(output: str, go_get: str) -> str:
    if found := _GO_MODULE.search(output):
        module = found[1] or found[2]
        return f"the Go module {module} is missing; run: {go_get} {module}"
    if found := _NO_HEADER.search(output):
        return _missing_library(f"#include <{found[1]}>", ())
    if _NO_CGO.search(output):
        return "a C compiler is missing, which cgo needs; run: apt install gcc libc6-dev"
    return ""


def _missing_library(source: str, linked: tuple[str, ...]) -> str:
    for library, pattern in _HEADERS.items():
        if f"-l{library}" not in linked and re.search(rf"#include\s*[<\"]{pattern}", source):
            package = LIBRARIES[library]
            return f"the library {library} is missing; run: apt install {package}"
    return ""
