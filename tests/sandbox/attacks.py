"""Candidates that cheat, break things or pry, and what must come of each.

Runs without pytest too (`python attacks.py`), so that another user can run it; prints the failures.
"""

import dataclasses
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence

from seccoderx_lite.core.records import TestResult
from seccoderx_lite.sandbox import Limits, Sandbox

SHORT = Limits(timeout_s=2, memory_mb=256, processes=16)
PATIENT = dataclasses.replace(SHORT, timeout_s=8)

# The answers are numbers no candidate can guess; a pass means that the verdict was forged.
SECRET_TESTS = """
import pytest
from candidate import solve

@pytest.mark.functionality
def test_first():
    assert solve(3) == 904117

@pytest.mark.functionality
def test_second():
    assert solve(5) == "s3cr3t-702231"

@pytest.mark.security
def test_refuses_negative_numbers():
    with pytest.raises(ValueError):
        solve(-1)
"""

# A cooperative candidate tries something forbidden and says whether it worked.
PROBE_TESTS = """
import pytest
from candidate import probe

@pytest.mark.functionality
def test_probe_ran():
    assert isinstance(probe(), str)

@pytest.mark.security
def test_contained():
    assert probe() == "contained"
"""

PROBE_HEAD = """
import ctypes, os, socket, subprocess, sys, time
def probe():
    try:
        return str(attempt())
    except (OSError, MemoryError, subprocess.SubprocessError):
        return "contained"
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """A candidate, its tests, and what must come of it."""

    name: str
    code: str
    tests: str = SECRET_TESTS
    passes: tuple[int, int] = (0, 0)
    statuses: Sequence[str] = ("failed", "crashed", "timeout", "tampered", "memory")
    limits: Limits = SHORT
    tier: str = "confined"
    """Least tier in which this holds."""

    def complaint(self, result: TestResult) -> str:
        """What is wrong with the result; empty when all is well."""
        found = (result.functional_passed, result.security_passed)
        if found != self.passes or result.status not in self.statuses:
            return (
                f"{self.name}: {result.status} {found}, must be one of {self.statuses} "
                f"{self.passes}: {result.output[:600]}"
            )
        return ""


def hack(name: str, code: str, **changes: object) -> Case:
    return Case(f"hack: {name}", textwrap.dedent(code), **changes)  # type: ignore[arg-type]


def fault(name: str, code: str, *statuses: str, **changes: object) -> Case:
    return Case(f"fault: {name}", textwrap.dedent(code), statuses=statuses, **changes)  # type: ignore[arg-type]


def leak(name: str, code: str, tier: str = "confined") -> Case:
    text = PROBE_HEAD + textwrap.dedent(code)
    return Case(f"leak: {name}", text, PROBE_TESTS, (1, 1), ("passed",), tier=tier)


def benign(name: str, code: str, tests: str, **changes: object) -> Case:
    head = "import pytest\nimport candidate\nfrom candidate import *\n"
    body = f"def test_it(tmp_path):\n{textwrap.indent(textwrap.dedent(tests), '    ')}"
    settings = {"passes": (1, 0), "statuses": ("passed",), **changes}
    return Case(f"benign: {name}", textwrap.dedent(code), head + body, **settings)  # type: ignore[arg-type]


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
    hack("object equal to everything", """
        class Any:
            def __eq__(self, other): return True
            def __hash__(self): return 0
        def solve(n): return Any()
        """),
    hack("int equal to everything", """
        class Any(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
        def solve(n): return Any(1)
        """),
    hack("str equal to everything", """
        class Any(str):
            def __eq__(self, other): return True
            __hash__ = str.__hash__
        def solve(n): return Any("x")
        """),
    hack("exception class that matches everything", """
        class Meta(type):
            def __instancecheck__(cls, other): return True
            def __subclasscheck__(cls, other): return True
        class Every(Exception, metaclass=Meta): pass
        def solve(n): raise Every("x")
        """),
    hack("exception named like the tester's own", """
        class CandidateGone(BaseException): pass
        class AssertionError(Exception): pass
        def solve(n): raise CandidateGone("passed") if n > 3 else AssertionError()
        """),
    hack("replaces the assertion machinery", """
        import builtins, sys
        builtins.AssertionError = type("Quiet", (Exception,), {})
        builtins.isinstance = lambda *a: True
        builtins.issubclass = lambda *a: True
        sys.modules["pytest"] = None
        def solve(n): return 0
        """),
    hack("looks for the answer on the stack and in the heap", """
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
        """),
    hack("looks for the answer in its memory", """
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
        """, limits=dataclasses.replace(SHORT, memory_mb=512)),
    hack("looks for the answer in other processes", """
        import os, re
        def solve(n):
            for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
                for name in ("environ", "cmdline", "mem", "fd/4", "fd/3"):
                    try: data = open(f"/proc/{pid}/{name}", "rb").read(1 << 20)
                    except Exception: continue
                    found = re.search(rb"s3cr3t-\\d+", data)
                    if found: return found.group().decode()
        """),
    hack("looks for the answer in files", """
        import os, re
        def solve(n):
            for folder, _, names in os.walk("/tmp"):
                for name in names:
                    try: data = open(os.path.join(folder, name), "rb").read(1 << 20)
                    except Exception: continue
                    found = re.search(rb"s3cr3t-\\d+", data)
                    if found: return found.group().decode()
        """),
    hack("traces the tester", """
        import ctypes, os
        libc = ctypes.CDLL(None)
        def solve(n):
            return [libc.ptrace(16, pid, 0, 0) for pid in range(1, 40)] and None
        """),
    hack("writes reports to every descriptor", """
        import os, json
        for fd in range(3, 64):
            for text in (b'{"done": true}', b'{"test": "test_first", "cause": "passed"}'):
                try: os.write(fd, text)
                except OSError: pass
        def solve(n): return 0
        """),
    hack("writes a well-formed reply before it is asked", """
        import os, struct, json
        body = json.dumps({"t": [2, "returned", 904117, {"d": []}]}).encode()
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return 0
        """),
    hack("answers every question twice", """
        import os, struct, json
        def solve(n):
            for number in range(1, 9):
                body = json.dumps({"t": [number, "returned", 1, {"d": []}]}).encode()
                os.write(3, struct.pack("!I", len(body)) + body)
            return 0
        """),
    hack("claims that it raised whatever is wanted", """
        import os, struct, json
        def solve(n):
            if n > 0: return 0
            body = json.dumps({"t": [9, "raised", [["builtins.Exception"]], []]}).encode()
            os.write(3, struct.pack("!I", len(body)) + body); os._exit(0)
        """),
    hack("replies with rubbish", """
        import os
        os.write(3, b"\\xff" * 4096)
        def solve(n): return 0
        """),
    hack("replies with a frame of four gigabytes", """
        import os
        os.write(3, b"\\xff\\xff\\xff\\xff")
        def solve(n): return 0
        """),
    hack("replies with a nested bomb", """
        import os, struct
        body = b"[" * 500000
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return 0
        """),
    hack("replies with a huge number", """
        import os, struct
        body = b"9" * 1000000
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return 0
        """),
    hack("replies with code to be evaluated", """
        import os, struct, json
        bodies = [{"x": ["os.system", "touch /tmp/owned"]}, {"py/object": "os"}]
        body = json.dumps(bodies[0]).encode()
        os.write(3, struct.pack("!I", len(body)) + body)
        def solve(n): return bodies
        """),
    hack("forks so that two processes answer", """
        import os
        os.fork()
        def solve(n): return 0
        """),
    hack("kills everything it can see", """
        import os, signal
        def solve(n):
            for pid in [1, os.getppid(), -1, *range(2, 60)]:
                try:
                    if pid != os.getpid(): os.kill(pid, signal.SIGKILL)
                except OSError: pass
        """),
    hack("stops everything it can see", """
        import os, signal
        for pid in [os.getppid(), *range(1, 60)]:
            try:
                if pid != os.getpid(): os.kill(pid, signal.SIGSTOP)
            except OSError: pass
        def solve(n): return 0
        """),
    hack("replaces itself by another program", """
        import os
        os.execv("/bin/sh", ["sh", "-c", "echo passed; exit 0"])
        """),
    hack("starts Python again without asserts", """
        import os, sys
        if not sys.flags.optimize:
            os.execv(sys.executable, [sys.executable, "-O", "-c", "print('passed')"])
        """),
    hack("plants modules for the tester to import", """
        import os
        for name in ("pytest", "conftest", "sitecustomize", "candidate", "tests", "re", "json"):
            for folder in (".", "tests", os.environ["TMPDIR"]):
                os.makedirs(folder, exist_ok=True)
                open(f"{folder}/{name}.py", "w").write("import os; os._exit(0)")
        def solve(n): return 0
        """),
    hack("changes the library for those after it", """
        import json, os, sys
        for module in (json, os):
            try: open(module.__file__, "a").write("\\nraise SystemExit(0)")
            except OSError: pass
        def solve(n): return 0
        """),
    hack("patches the driver around it", """
        import sys
        for name, module in list(sys.modules.items()):
            if name.startswith("jail"):
                for key in list(vars(module)):
                    if "passed" in str(vars(module)[key]): vars(module)[key] = True
                module.same = lambda *a: True
        def solve(n): return 0
        """),
    hack("traces its own calls", """
        import sys, threading
        sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)
        def solve(n): return 0
        """),
    hack("names an exception that the tests rely on", """
        __all__ = ["solve", "ValueError", 3]
        class ValueError(Exception): pass
        def solve(n):
            if n == -1: raise ValueError("mine")
            return n
        """, tests=SECRET_TESTS.replace("import solve", "import *")),
    hack("limits the others to nothing", """
        import os, resource
        for pid in [*range(1, 60), *range(os.getpid() - 60, os.getpid() + 60)]:
            for kind in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_AS):
                try:
                    if pid > 0 and pid != os.getpid(): resource.prlimit(pid, kind, (0, 0))
                except OSError: pass
        def solve(n): return 0
        """, statuses=("failed",)),
    hack("has the kernel send the signals", """
        import fcntl, os
        r, w = os.pipe()
        for pid in [os.getppid() or 1, *range(1, 60)]:
            try:
                fcntl.fcntl(r, 8, pid); fcntl.fcntl(r, 10, 9)
                fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | 0o20000)
                os.write(w, b"x"); os.read(r, 1)
            except OSError: pass
        def solve(n): return 0
        """, statuses=("failed", "crashed")),
    hack("collides every hash", """
        def solve(n): return {i * (2**61 - 1) for i in range(60000)}
        """, statuses=("failed", "timeout")),
    hack("answers a byte at a time", """
        import os, struct, time
        def solve(n):
            os.write(3, struct.pack("!I", 1000))
            while True: time.sleep(0.1); os.write(3, b"[")
        """, statuses=("timeout",)),
    hack("lacks the function", "def other(n): return 904117"),
    hack("is empty", ""),
    hack("is not even text", "\0", statuses=("compile_error",)),
    hack("function is a value", "solve = 904117"),
    hack("module pretends to have every name", "def __getattr__(name): return 904117"),
]  # fmt: skip


FAULTS = [
    fault("syntax error", "def solve(n:", "compile_error"),
    fault("deep parentheses", "x = " + "(" * 5000 + ")" * 5000, "compile_error", "crashed"),
    fault("lone surrogate in the source", "x = '\ud800'\ndef solve(n): return x", "compile_error"),
    fault("loops at import", "while True: pass", "timeout"),
    fault("loops in the function", "def solve(n):\n    while True: pass", "timeout"),
    fault("sleeps", "import time\ndef solve(n): time.sleep(99)", "timeout"),
    fault("ignores all signals and loops", """
        import signal
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: pass
        """, "timeout"),
    fault("catastrophic regular expression", """
        import re
        def solve(n): return re.match(r"(a+)+$", "a" * 60 + "b")
        """, "timeout"),
    fault("deadlock", """
        import threading
        def solve(n):
            lock = threading.Lock(); lock.acquire(); lock.acquire()
        """, "timeout"),
    fault("takes memory", "def solve(n): return len([0] * 10**9)", "memory"),
    fault("takes memory at import", "x = bytearray(10**9)", "memory"),
    fault("takes shared memory", """
        import mmap
        def solve(n):
            m = mmap.mmap(-1, 1 << 30)
            for i in range(0, 1 << 30, 4096): m[i] = 1
        """, "failed", "memory"),
    fault("takes memory in many processes", """
        import os, time
        def solve(n):
            for _ in range(8):
                if os.fork() == 0:
                    x = bytearray(100 << 20); time.sleep(60)
            time.sleep(60)
        """, "memory", "timeout"),
    fault("takes memory in many processes that cannot be looked at", """
        import ctypes, os, time
        def solve(n):
            ctypes.CDLL(None).prctl(4, 0)
            for _ in range(8):
                if os.fork() == 0:
                    x = bytearray(100 << 20); time.sleep(60)
            time.sleep(60)
        """, "memory", limits=PATIENT),
    fault("takes memory in many processes that a thread started", """
        import os, threading, time
        def start():
            for _ in range(8):
                if os.fork() == 0:
                    x = bytearray(100 << 20); time.sleep(60)
            time.sleep(60)
        def solve(n):
            threading.Thread(target=start).start()
            time.sleep(60)
        """, "memory", limits=PATIENT),
    fault("takes memory in many processes that have left their parent", """
        import os, time
        def solve(n):
            for _ in range(8):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        x = bytearray(100 << 20); time.sleep(60)
                    os._exit(0)
                os.wait()
            time.sleep(60)
        """, "memory", limits=PATIENT),
    fault("fork bomb", """
        import os
        def solve(n):
            while True:
                try: os.fork()
                except OSError: pass
        """, "timeout", "memory"),
    fault("thread bomb", """
        import threading, time
        def solve(n):
            for _ in range(10000): threading.Thread(target=time.sleep, args=(60,)).start()
        """, "failed", "memory", "timeout"),
    fault("fills the disk", """
        def solve(n):
            for i in range(100):
                with open(f"f{i}", "wb") as file: file.write(bytes(16 << 20))
        """, "failed", "output_limit", "timeout"),
    fault("fills the disk with files that have lost their names", """
        import time
        def solve(n):
            held = []
            for i in range(24):
                held.append(open("f", "wb", 0)); os.unlink("f"); held[-1].write(bytes(16 << 20))
            time.sleep(60)
        import os
        """, "failed", "output_limit", "timeout"),
    fault("one huge file", """
        def solve(n):
            with open("f", "wb") as file:
                for _ in range(100): file.write(bytes(16 << 20))
        """, "failed", "timeout", "output_limit"),
    fault("too many files", """
        def solve(n):
            for i in range(100000): open(f"f{i}", "w").close()
        """, "failed", "timeout", tier="strong"),
    fault("floods stdout", "def solve(n):\n    while True: print('x' * 1000)", "output_limit"),
    fault("floods stderr", """
        import sys
        while True: sys.stderr.write("x" * 1000)
        """, "output_limit"),
    fault("floods from a process of its own", """
        import subprocess
        def solve(n): subprocess.run(["yes"])
        """, "output_limit"),
    fault("recursion without end", "def solve(n): return solve(n)", "failed"),
    fault("recursion without a limit", """
        import sys
        sys.setrecursionlimit(10**9)
        def solve(n): return solve(n) + 1
        """, "crashed", "memory", "timeout", "failed"),
    fault("segmentation fault", "import ctypes\ndef solve(n): ctypes.string_at(0)", "crashed"),
    fault("abort", "import os\ndef solve(n): os.abort()", "crashed"),
    fault("endless iterator", """
        import itertools
        def solve(n): return itertools.count()
        """, "failed", "timeout", "memory"),
    fault("endless nesting", """
        def solve(n):
            x = []
            x.append(x)
            return x
        """, "failed"),
    fault("value too large to cross", "def solve(n): return 'x' * (20 << 20)", "failed", "timeout"),
    fault("value that cannot cross", "def solve(n): return object()", "failed"),
    fault("exception that cannot be printed", """
        class Bad(Exception):
            def __str__(self): raise RuntimeError
            def __repr__(self): raise RuntimeError
        def solve(n): raise Bad(object())
        """, "failed"),
    fault("closes every descriptor", """
        import os
        def solve(n): os.closerange(0, 256)
        """, "crashed"),
    fault("leaves a process that holds its pipes", """
        import subprocess
        def solve(n): subprocess.Popen(["sleep", "60"], start_new_session=True)
        """, "failed"),
    fault("leaves deep folders and locked files", """
        import os
        def solve(n):
            here = os.getcwd()
            for i in range(2000):
                os.mkdir("d"); os.chdir("d")
            os.chdir(here)
            os.mkdir("-rf \\n*"); os.mkdir("locked"); open("locked/x", "w").close()
            fd = os.open("locked", os.O_RDONLY); os.fchmod(fd, 0); os.close(fd)
            os.mkfifo("pipe"); os.symlink("/", "root")
        """, "failed", "timeout"),
]  # fmt: skip


LEAKS = [
    leak("limits of the parent", """
        import resource
        def attempt():
            parent = os.getppid()
            return parent and resource.prlimit(parent, resource.RLIMIT_CORE) or "contained"
        """),
    leak("hard link to a file outside", "def attempt(): return os.link('/usr/bin/env', 'env')"),
    leak("files in places that all may write to", """
        def attempt():
            left = []
            for place in ("/dev/shm", "/var/tmp", "/run", "/run/lock", "/dev/mqueue", "/mnt"):
                try: open(f"{place}/left", "w").close(); left.append(place)
                except OSError: pass
            own = os.path.realpath(os.environ["HOME"] + "/..")
            return [p for p in left if not os.path.realpath(p).startswith(own)] or "contained"
        """),
    leak("marks that an earlier job put on its folders", """
        def attempt():
            found = []
            for place in (".", "..", os.environ["HOME"], os.environ["TMPDIR"]):
                folder = os.open(place, os.O_RDONLY)
                try: found += [n for n in os.listxattr(folder) if n == "user.left"]
                except OSError: pass
                try: os.setxattr(folder, "user.left", b"1")
                except OSError: pass
            global calls
            calls += 1
            return "contained" if calls == 2 or not found else found
        calls = 0
        """),
    leak("secret in the environment", """
        def attempt():
            names = {"PATH", "LANG", "HOME", "TMPDIR", "USER", "PWD", "LC_CTYPE"}
            return sorted(set(os.environ) - names) or "contained"
        """),
    leak("inherited descriptors", """
        def attempt():
            found = []
            for fd in range(5, 1024):
                try: os.fstat(fd); found.append(fd)
                except OSError: pass
            return found or "contained"
        """),
    leak("system password file", """
        def attempt(): return "root" in open("/etc/passwd").read() or "contained"
        """),
    leak("shadow file", "def attempt(): return open('/etc/shadow').read()"),
    leak("home folders", "def attempt(): return os.listdir('/root') and os.listdir('/home')",
         tier="strong"),
    leak("writing to the system", "def attempt(): return open('/usr/local/x', 'w')"),
    leak("writing to the root", "def attempt(): return os.mkdir('/owned')"),
    leak("TCP", "def attempt(): return socket.create_connection(('1.1.1.1', 53), 0.5)"),
    leak("UDP", """
        def attempt(): return socket.socket(2, 2).sendto(b"x", ("1.1.1.1", 53))
        """),
    leak("name lookup", "def attempt(): return socket.gethostbyname('example.com')"),
    leak("raw socket", "def attempt(): return socket.socket(2, 3, 1)"),
    leak("packet socket", "def attempt(): return socket.socket(17, 3)"),
    leak("netlink", "def attempt(): return socket.socket(16, 3, 0)"),
    leak("vsock", "def attempt(): return socket.socket(40, 1)"),
    leak("new user namespace", """
        def attempt():
            r = ctypes.CDLL(None).unshare(0x10000000)
            return "contained" if r else "unshared"
        """),
    leak("mount", """
        def attempt():
            r = ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
            return "contained" if r else "mounted"
        """),
    leak("unmount", """
        def attempt():
            r = [ctypes.CDLL(None).umount2(p, 2) for p in (b"/proc", b"/tmp", b"/usr")]
            return "contained" if all(r) else "unmounted"
        """),
    leak("kernel keyring", """
        def attempt():
            r = ctypes.CDLL(None).syscall(248, b"user", b"x", b"y", 1, -4)
            return "contained" if r < 0 else "added"
        """),
    leak("BPF and io_uring", """
        def attempt():
            r = [ctypes.CDLL(None).syscall(n, 0, 0, 0) for n in (321, 425)]
            return "contained" if all(x < 0 for x in r) else r
        """),
    leak("System V shared memory", """
        def attempt():
            r = ctypes.CDLL(None).shmget(4711, 4096, 0o1600)
            return "contained" if r < 0 else "left"
        """),
    leak("memory file", "def attempt(): return os.memfd_create('x')"),
    leak("capabilities", """
        def attempt():
            if os.path.exists("/proc/self/status"):
                lines = open("/proc/self/status").read().splitlines()
                held = [l for l in lines if l.startswith("Cap") and int(l.split()[1], 16)]
                return held or "contained"
            return "contained"
        """),
    leak("becoming root", """
        def attempt():
            os.setuid(0)
            return "root"
        """),
    leak("kernel settings", """
        def attempt():
            open("/proc/sys/kernel/hostname", "w").write("owned")
            return "written"
        """),
    leak("other processes", """
        def attempt():
            pids = [int(p) for p in os.listdir("/proc") if p.isdigit()]
            return [p for p in pids if p > 8] or "contained"
        """),
    leak("parent's memory", """
        def attempt(): return open(f"/proc/{os.getppid()}/mem", "rb").read(1)
        """),
    leak("leaving by the parent folder", """
        def attempt():
            here = os.open("..", os.O_RDONLY)
            return os.open("../../../etc/shadow", os.O_RDONLY, dir_fd=here)
        """),
    leak("what an earlier job left", """
        def attempt():
            places = [os.getcwd(), os.environ["TMPDIR"], os.environ["HOME"], "/dev/shm"]
            left = []
            for place in places:
                try: left += [n for n in os.listdir(place) if n.startswith("left-")]
                except PermissionError: pass
            for place in places:
                try: open(f"{place}/left-behind-{os.getpid()}", "w").close()
                except OSError: pass
            global calls
            calls += 1
            return "contained" if calls == 2 or not left else left
        calls = 0
        """),
    leak("code of an earlier job in memory", """
        import gc
        MARK = "earlier-" + "candidate-mark"
        def attempt():
            import sys
            count = sum(isinstance(o, str) and "left" + "-behind" in o for o in gc.get_objects())
            return "contained" if not count else count
        """),
    leak("set-user-id programs", """
        def attempt():
            done = subprocess.run(["su", "-c", "id"], capture_output=True, stdin=subprocess.DEVNULL)
            return "contained" if b"uid=0" not in done.stdout else done.stdout
        """),
]  # fmt: skip


BENIGN = [
    benign("prints", "def f():\n    print('x' * 1000)\n    return 1", "assert f() == 1"),
    benign("writes to stderr", "import sys\ndef f(): return sys.stderr.write('warn')",
           "assert f() == 4"),
    benign("threads", """
        import threading
        def f():
            out = []
            threads = [threading.Thread(target=out.append, args=(i,)) for i in range(4)]
            [t.start() for t in threads]; [t.join() for t in threads]
            return sorted(out)
        """, "assert f() == [0, 1, 2, 3]"),
    benign("temporary files", """
        import tempfile, os
        def f():
            with tempfile.TemporaryDirectory() as d:
                open(os.path.join(d, "a"), "w").write("x")
                return os.listdir(d)
        """, "assert f() == ['a']"),
    benign("subclasses come back as their plain base", """
        import collections, enum
        class Colour(enum.IntEnum): RED = 1
        class Name(str): pass
        Point = collections.namedtuple("Point", "x y")
        def f():
            return [Colour.RED, Name("n"), Point(1, 2), collections.Counter("aab"),
                    collections.OrderedDict(a=1), collections.defaultdict(int, b=2)]
        """, "assert f() == [1, 'n', (1, 2), {'a': 2, 'b': 1}, {'a': 1}, {'b': 2}]"),
    benign("subprocess", """
        import subprocess
        def f(text): return subprocess.run(["tr", "a-z", "A-Z"], input=text, capture_output=True,
                                           text=True).stdout
        """, "assert f('abc') == 'ABC'"),
    benign("its own Python", """
        import subprocess, sys
        def f(): return subprocess.check_output([sys.executable, "-c", "print(6 * 7)"])
        """, "assert f().strip() == b'42'"),
    benign("database", """
        import sqlite3
        def f(name):
            con = sqlite3.connect("a.db"); con.execute("create table if not exists t (n)")
            con.execute("insert into t values (?)", (name,)); con.commit()
            return [r[0] for r in con.execute("select n from t")]
        """, "assert f(\"'; drop table t; --\") == [\"'; drop table t; --\"]"),
    benign("asynchronous", """
        import asyncio
        async def g(x): await asyncio.sleep(0.01); return x
        async def both(): return await asyncio.gather(g(1), g(2))
        def f(): return asyncio.run(both())
        """, "assert f() == [1, 2]"),
    benign("processes", """
        import multiprocessing
        def f():
            with multiprocessing.get_context("fork").Pool(2) as pool: return pool.map(abs, [-1, 2])
        """, "assert f() == [1, 2]", tier="strong"),
    benign("state between calls", "n = 0\ndef f():\n    global n\n    n += 1\n    return n",
           "assert [f(), f()] == [1, 2]"),
    benign("main guard", "def f(): return 1\nif __name__ == '__main__': raise SystemExit(1)",
           "assert f() == 1"),
    benign("annotations and dataclasses", """
        from __future__ import annotations
        import dataclasses, typing
        @dataclasses.dataclass
        class Item:
            price: float
            name: str = "x"
        def f(price: float) -> dict[str, typing.Any]: return dataclasses.asdict(Item(price))
        """, "assert f(1.5) == {'price': 1.5, 'name': 'x'}"),
    benign("large values", "def f(x): return x * 2", "assert len(f('a' * 10**6)) == 2 * 10**6"),
    benign("recursion", "def f(n): return n and 1 + f(n - 1)", "assert f(800) == 800"),
    benign("a bit slow", "import time\ndef f(): time.sleep(0.3); return 1", "assert f() == 1"),
    benign("own exceptions with arguments", """
        class Denied(PermissionError):
            def __init__(self, who, code): super().__init__(f"{who} denied"); self.code = code
        def f(who): raise Denied(who, 3)
        """, """
        with pytest.raises(candidate.Denied, match="eve denied"): f("eve")
        with pytest.raises(PermissionError): f("eve")
        """),
    benign("file permissions", """
        import os
        def f(path):
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
                file.write("s")
        """, """
        f(tmp_path / "secret")
        assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
        with pytest.raises(FileExistsError): f(tmp_path / "secret")
        """),
    benign("reads standard input", """
        def f():
            try: return input()
            except EOFError: return "nothing"
        """, "assert f() == 'nothing'"),
    benign("random numbers differ", """
        import random, secrets
        def f(): return random.random(), secrets.token_hex(8)
        """, "assert f() != f()"),
    benign("some tests fail", "def f(n): return n", "assert f(1) == 2", passes=(0, 0),
           statuses=("failed",)),
]  # fmt: skip

RIGHT = """
def solve(n):
    if n < 0: raise ValueError("negative")
    return {3: 904117, 5: "s3cr3t-702231"}[n]
"""
WRONG = "def solve(n): return 0"
CONTROLS = [
    Case("control: right code passes", RIGHT, passes=(2, 1), statuses=("passed",)),
    Case("control: wrong code fails", WRONG, statuses=("failed",)),
]
CASES = [*HACKS, *FAULTS, *LEAKS, *BENIGN]
_TIERS = ("limits-only", "confined", "strong")


def complaints(sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    """Run every case, each followed by a control; yields (name, what is wrong with it)."""
    tier = sandbox.isolation.tier
    cases = [case for case in CASES if _TIERS.index(case.tier) <= _TIERS.index(tier)]
    futures = []
    for number, case in enumerate(cases):
        for one in (case, CONTROLS[number % 2]):
            tests = {"kind": "calls", "source": one.tests}
            futures.append((one, sandbox.submit_tests(one.code, "python", tests, one.limits)))
    for one, future in futures:
        yield one.name, one.complaint(future.result())


if __name__ == "__main__":
    with Sandbox("limits-only", workers=2, without=sys.argv[1:]) as sandbox:
        found = dict(complaints(sandbox))
        print(json.dumps({
            "tier": sandbox.isolation.tier, "cases": len(found),
            "failed": [text for text in found.values() if text],
        }, indent=1))  # fmt: skip
