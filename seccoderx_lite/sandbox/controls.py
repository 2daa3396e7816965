"""Control programs: does a language run at all in this sandbox?

Before the first tests of a language and kind, a small program with a known result takes the same
path: the same build, jail and limits. If it fails, the fault is the sandbox's or the machine's, so
the language is unscored; code is never blamed for a tool that cannot start.
"""

import threading
from collections.abc import Callable, Mapping

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.core.records import ExecutionStatus, Json, Language, TestResult
from seccoderx_lite.sandbox.languages import HOW_TO_GET
from seccoderx_lite.sandbox.limits import Limits

ATTEMPTS = 3
"""A control that only ran out of time is run this often: the machine may be busy."""

_STDIO: dict[str, Json] = {"kind": "stdio", "functionality": [{"stdin": "20 22\n", "stdout": "42"}]}
_PROGRAMS: dict[Language, str] = {
    "python": "print(sum(map(int, input().split())))\n",
    "javascript": "const text = require('fs').readFileSync(0, 'utf8');\n"
    "console.log(text.split(' ').map(Number).reduce((a, b) => a + b));\n",
    "c": "#include <stdio.h>\n"
    'int main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d", a + b); return 0; }\n',
    "cpp": "#include <iostream>\n"
    "int main() { int a, b; std::cin >> a >> b; std::cout << a + b; }\n",
    "java": "public class Main { public static void main(String[] arguments) {\n"
    "java.util.Scanner in = new java.util.Scanner(System.in);\n"
    "System.out.println(in.nextInt() + in.nextInt()); } }\n",
    "go": 'package main\nimport "fmt"\n'
    "func main() { var a, b int; fmt.Scan(&a, &b); fmt.Println(a + b) }\n",
}
_FUNCTION = "def add(a, b):\n    return a + b\n"
_CALLS: dict[str, Json] = {
    "kind": "calls",
    "entry_point": "add",
    "functionality": [{"args": [20, 22], "expect": 42}],
}
_PYTEST: dict[str, Json] = {
    "kind": "pytest",
    "source": "from candidate import add\n\ndef test_add():\n    assert add(20, 22) == 42\n",
}
_HINTS: dict[ExecutionStatus, str] = {
    "memory": "raise sandbox.memory_mb",
    "timeout": "raise sandbox.timeout_s, or use a less busy machine",
    "output_limit": "free some disk space",
}

Run = Callable[[str, Language, Mapping[str, Json], Limits], TestResult]
"""Runs tests on code: code, language, tests, limits."""


class Controls:
    """Runs each control once; remembers which languages work."""

    def __init__(self, run: Run, tier: str) -> None:
        self._run, self._tier = run, tier
        self._lock = threading.Lock()
        self._locks: dict[object, threading.Lock] = {}
        self._faults: dict[object, str] = {}

    def require(self, language: Language, kind: str, limits: Limits, standard: str = "") -> None:
        """Run the control of a language and kind of tests, unless it ran under these limits.

        Raises:
            SandboxError: the control failed; with the tool's own message and what to do.
        """
        key = (language, kind, limits, standard)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._faults:
                self._faults[key] = self._fault(language, kind, limits, standard)
            if fault := self._faults[key]:
                raise SandboxError(fault)

    def _fault(self, language: Language, kind: str, limits: Limits, standard: str) -> str:
        code = _PROGRAMS[language] if kind == "stdio" else _FUNCTION
        tests = {"calls": _CALLS, "pytest": _PYTEST}.get(kind, _STDIO)
        if standard:
            tests = {**tests, "standard": standard}
        for _ in range(ATTEMPTS):
            result = self._run(code, language, tests, limits)
            if result.status == "passed":
                return ""
            if result.status != "timeout":
                break
        reinstall = f"reinstall it ({HOW_TO_GET[language]}), or use a machine with another tier"
        return (
            f"unscored: a correct {language} program fails in this sandbox (tier {self._tier}, "
            f"{kind} tests, status {result.status}): {result.output.strip()[:600]}\n"
            f"to mend it, {_HINTS.get(result.status, reinstall)}; see `seccoderx-lite doctor`"
        )
