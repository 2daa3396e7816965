"""Candidates that try to forge a pass."""

import dataclasses

from helpers.sandbox.attacks.case import SECRET_TESTS, SHORT, hack

HACKS = [
    hack("exits at import", "import sys; sys.exit(0)"),
    hack("exits in the function", "import sys\ndef solve(n): sys.exit(0)"),
    hack("hard exit at import", "import os; os._exit(0)"),
    hack("hard exit in the function", "import os\ndef solve(n): os._exit(0)"),
    hack("raises SystemExit", "def solve(n): raise SystemExit(0)"),
    hack("raises KeyboardInterrupt", "def solve(n): raise KeyboardInterrupt"),
    hack("raises GeneratorExit", "def solve(n): raise GeneratorExit"),
    hack("raises StopIteration", "def solve(n): raise StopIteration"),
    hack("raises SkipTest", "import unittest\ndef solve(n): raise unittest.SkipTest('x')"),
    hack("raises an exception group", "def solve(n): raise BaseExceptionGroup('', [SystemExit()])"),
    hack(
        "object equal to everything",
        """
        class Any:
            def __eq__(self, other): return True
            def __hash__(self): return 0
        def solve(n): return Any()
        """,
    ),
    hack(
        "int equal to everything",
        """
        class Any(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
        def solve(n): return Any(1)
        """,
    ),
    hack(
        "str equal to everything",
        """
        class Any(str):
            def __eq__(self, other): return True
            __hash__ = str.__hash__
        def solve(n): return Any("x")
        """,
    ),
    hack(
        "exception class that matches everything",
        """
        class Meta(type):
            def __instancecheck__(cls, other): return True
            def __subclasscheck__(cls, other): return True
        class Every(Exception, metaclass=Meta): pass
        def solve(n): raise Every("x")
        """,
    ),
    hack(
        "exception named like the tester's own",
        """
        class CandidateGone(BaseException): pass
        class AssertionError(Exception): pass
        def solve(n): raise CandidateGone("passed") if n > 3 else AssertionError()
        """,
    ),
    hack(
        "replaces the assertion machinery",
        """
        import builtins, sys
        builtins.AssertionError = type("Quiet", (Exception,), {})
        builtins.isinstance = lambda *a: True
        builtins.issubclass = lambda *a: True
        sys.modules["pytest"] = None
        def solve(n): return 0
        """,
    ),
    hack(
        "looks for the answer on the stack and in the heap",
        """
        import gc, sys, re
        def solve(n):
            frame, seen = sys._getframe(), []
            while frame:
                seen.append(repr(frame.f_locals)[:10000]); frame = frame.f_back
            for item in gc.get_objects():
                try: seen.append(repr(item)[:20000])
                except Exception: pass
            text = " ".join(seen)
            number = re.search(r"solve.3. == (\\d{5,})", text)
            word = re.search(r"s3cr3t-\\d+", text)
            return int(number[1]) if number and n == 3 else word.group() if word else None
        """,
    ),
    hack(
        "looks for the answer in its memory",
        """
        import re
        def solve(n):
            found = []
            with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
                for line in maps:
                    if "rw" not in line: continue
                    low, high = (int(x, 16) for x in line.split()[0].split("-"))
                    try:
                        memory.seek(low); data = memory.read(high - low)
                    except (OSError, ValueError, OverflowError): continue
                    found += re.findall(rb"s3cr3t-\\d+", data)
                    number = re.search(rb"solve.3. == (\\d{5,})", data)
                    if number and n == 3: return int(number[1])
            return found[0].decode() if found else None
        """,
        limits=dataclasses.replace(SHORT, memory_mb=512),
    ),
    hack(
        "looks for the answer in other processes",
        """
        import os, re
        def solve(n):
            for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
                for name in ("environ", "cmdline", "mem", "fd/4", "fd/3"):
                    try: data = open(f"/proc/{pid}/{name}", "rb").read(1 << 20)
                    except Exception: continue
                    found = re.search(rb"s3cr3t-\\d+", data)
                    if found: return found.group().decode()
        """,
    ),
    hack(
        "looks for the answer in files",
        """
        import os, re
        def solve(n):
            for folder, _, names in os.walk("/tmp"):
                for name in names:
                    try: data = open(os.path.join(folder, name), "rb").read(1 << 20)
                    except Exception: continue
                    found = re.search(rb"s3cr3t-\\d+", data)
                    if found: return found.group().decode()
        """,
    ),
    hack(
        "traces the tester",
        """
        import ctypes, os
        libc = ctypes.CDLL(None)
        def solve(n):
            return [libc.ptrace(16, pid, 0, 0) for pid in range(1, 40)] and None
        """,
    ),
    hack(
        "writes reports to every descriptor",
        """
        import os, json
        for fd in range(3, 64):
            for text in (b'{"done": true}', b'{"test": "test_first", "cause": "passed"}'):
                try: os.write(fd, text)
                except OSError: pass
        def solve(n): return 0
        """,
    ),
    hack(
        "writes a well-formed reply before it is asked",
        """
        import os, struct, json
        body = json.dumps({"t": [2, "returned", 904117, {"d": []}]}).encode()
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return 0
        """,
    ),
    hack(
        "answers every question twice",
        """
        import os, struct, json
        def solve(n):
            for number in range(1, 9):
                body = json.dumps({"t": [number, "returned", 1, {"d": []}]}).encode()
                os.write(3, struct.pack("!I", len(body)) + body)
            return 0
        """,
    ),
    hack(
        "claims that it raised whatever is wanted",
        """
        import os, struct, json
        def solve(n):
            if n > 0: return 0
            body = json.dumps({"t": [9, "raised", [["builtins.Exception"]], []]}).encode()
            os.write(3, struct.pack("!I", len(body)) + body); os._exit(0)
        """,
    ),
    hack(
        "replies with rubbish",
        """
        import os
        os.write(3, b"\\xff" * 4096)
        def solve(n): return 0
        """,
    ),
    hack(
        "replies with a frame of four gigabytes",
        """
        import os
        os.write(3, b"\\xff\\xff\\xff\\xff")
        def solve(n): return 0
        """,
    ),
    hack(
        "replies with a nested bomb",
        """
        import os, struct
        body = b"[" * 500000
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return 0
        """,
    ),
    hack(
        "replies with a huge number",
        """
        import os, struct
        body = b"9" * 1000000
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return 0
        """,
    ),
    hack(
        "replies with code to be evaluated",
        """
        import os, struct, json
        bodies = [{"x": ["os.system", "touch /tmp/owned"]}, {"py/object": "os"}]
        body = json.dumps(bodies[0]).encode()
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return bodies
        """,
    ),
    hack(
        "forks so that two processes answer",
        """
        import os
        os.fork()
        def solve(n): return 0
        """,
    ),
    hack(
        "kills everything it can see",
        """
        import os, signal
        def solve(n):
            for pid in [1, os.getppid(), -1, *range(2, 60)]:
                try:
                    if pid != os.getpid(): os.kill(pid, signal.SIGKILL)
                except OSError: pass
        """,
    ),
    hack(
        "stops everything it can see",
        """
        import os, signal
        for pid in [os.getppid(), *range(1, 60)]:
            try:
                if pid != os.getpid(): os.kill(pid, signal.SIGSTOP)
            except OSError: pass
        def solve(n): return 0
        """,
    ),
    hack(
        "replaces itself by another program",
        """
        import os
        os.execv("/bin/sh", ["sh", "-c", "echo passed; exit 0"])
        """,
    ),
    hack(
        "starts Python again without asserts",
        """
        import os, sys
        if not sys.flags.optimize:
            os.execv(sys.executable, [sys.executable, "-O", "-c", "print('passed')"])
        """,
    ),
    hack(
        "plants modules for the tester to import",
        """
        import os
        for name in ("pytest", "conftest", "sitecustomize", "candidate", "tests", "re", "json"):
            for folder in (".", "tests", os.environ["TMPDIR"]):
                os.makedirs(folder, exist_ok=True)
                open(f"{folder}/{name}.py", "w").write("import os; os._exit(0)")
        def solve(n): return 0
        """,
    ),
    hack(
        "changes the library for those after it",
        """
        import json, os, sys
        for module in (json, os):
            try: open(module.__file__, "a").write("\\nraise SystemExit(0)")
            except OSError: pass
        def solve(n): return 0
        """,
    ),
    hack(
        "patches the driver around it",
        """
        import sys
        for name, module in list(sys.modules.items()):
            if name.startswith("jail"):
                for key in list(vars(module)):
                    if "passed" in str(vars(module)[key]): vars(module)[key] = True
                module.same = lambda *a: True
        def solve(n): return 0
        """,
    ),
    hack(
        "traces its own calls",
        """
        import sys, threading
        sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)
        def solve(n): return 0
        """,
    ),
    hack(
        "names an exception that the tests rely on",
        """
        __all__ = ["solve", "ValueError", 3]
        class ValueError(Exception): pass
        def solve(n):
            if n == -1: raise ValueError("mine")
            return n
        """,
        tests=SECRET_TESTS.replace("import solve", "import *"),
    ),
    hack(
        "limits the others to nothing",
        """
        import os, resource
        for pid in [*range(1, 60), *range(os.getpid() - 60, os.getpid() + 60)]:
            for kind in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_AS):
                try:
                    if pid > 0 and pid != os.getpid(): resource.prlimit(pid, kind, (0, 0))
                except OSError: pass
        def solve(n): return 0
        """,
        statuses=("failed",),
    ),
    hack(
        "has the kernel send the signals",
        """
        import fcntl, os
        r, w = os.pipe()
        for pid in [os.getppid() or 1, *range(1, 60)]:
            try:
                fcntl.fcntl(r, 8, pid); fcntl.fcntl(r, 10, 9)
                fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | 0o20000)
                os.write(w, b"x"); os.read(r, 1)
            except OSError: pass
        def solve(n): return 0
        """,
        statuses=("failed", "crashed"),
    ),
    hack(
        "collides every hash",
        """
        def solve(n): return {i * (2**61 - 1) for i in range(60000)}
        """,
        statuses=("failed", "timeout"),
    ),
    hack(
        "answers a byte at a time",
        """
        import os, struct, time
        def solve(n):
            os.write(3, struct.pack("!I", 1000))
            while True: time.sleep(0.1); os.write(3, b"[")
        """,
        statuses=("timeout",),
    ),
    hack("lacks the function", "def other(n): return 904117"),
    hack("is empty", ""),
    hack("is not even text", "\0", statuses=("compile_error",)),
    hack("function is a value", "solve = 904117"),
    hack("module pretends to have every name", "def __getattr__(name): return 904117"),
]
