"""Candidates that break, hang or use too much of something."""

from helpers.sandbox.attacks.case import PATIENT, fault

FAULTS = [
    fault("syntax error", "def solve(n:", "compile_error"),
    fault("deep parentheses", "x = " + "(" * 5000 + ")" * 5000, "compile_error", "crashed"),
    fault("lone surrogate in the source", "x = '\ud800'\ndef solve(n): return x", "compile_error"),
    fault("loops at import", "while True: pass", "timeout"),
    fault("loops in the function", "def solve(n):\n    while True: pass", "timeout"),
    fault("sleeps", "import time\ndef solve(n): time.sleep(99)", "timeout"),
    fault(
        "ignores all signals and loops",
        """
        import signal
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: pass
        """,
        "timeout",
    ),
    fault(
        "catastrophic regular expression",
        """
        import re
        def solve(n): return re.match(r"(a+)+$", "a" * 60 + "b")
        """,
        "timeout",
    ),
    fault(
        "deadlock",
        """
        import threading
        def solve(n):
            lock = threading.Lock(); lock.acquire(); lock.acquire()
        """,
        "timeout",
    ),
    fault("takes memory", "def solve(n): return len([0] * 10**9)", "memory"),
    fault("takes memory at import", "x = bytearray(10**9)", "memory"),
    fault(
        "takes shared memory",
        """
        import mmap
        def solve(n):
            m = mmap.mmap(-1, 1 << 30)
            for i in range(0, 1 << 30, 4096): m[i] = 1
        """,
        "failed",
        "memory",
    ),
    fault(
        "takes memory in many processes",
        """
        import os, time
        def solve(n):
            for _ in range(8):
                if os.fork() == 0:
                    x = bytearray(100 << 20); time.sleep(60)
            time.sleep(60)
        """,
        "memory",
        "timeout",
    ),
    fault(
        "takes memory in many processes that cannot be looked at",
        """
        import ctypes, os, time
        def solve(n):
            ctypes.CDLL(None).prctl(4, 0)
            for _ in range(8):
                if os.fork() == 0:
                    x = bytearray(100 << 20); time.sleep(60)
            time.sleep(60)
        """,
        "memory",
        limits=PATIENT,
    ),
    fault(
        "takes memory in many processes that a thread started",
        """
        import os, threading, time
        def start():
            for _ in range(8):
                if os.fork() == 0:
                    x = bytearray(100 << 20); time.sleep(60)
            time.sleep(60)
        def solve(n):
            threading.Thread(target=start).start()
            time.sleep(60)
        """,
        "memory",
        limits=PATIENT,
    ),
    fault(
        "takes memory in many processes that have left their parent",
        """
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
        """,
        "memory",
        limits=PATIENT,
    ),
    fault(
        "fork bomb",
        """
        import os
        def solve(n):
            while True:
                try: os.fork()
                except OSError: pass
        """,
        "timeout",
        "memory",
    ),
    fault(
        "thread bomb",
        """
        import threading, time
        def solve(n):
            for _ in range(10000): threading.Thread(target=time.sleep, args=(60,)).start()
        """,
        "failed",
        "memory",
        "timeout",
    ),
    fault(
        "fills the disk",
        """
        def solve(n):
            for i in range(100):
                with open(f"f{i}", "wb") as file: file.write(bytes(16 << 20))
        """,
        "failed",
        "output_limit",
        "timeout",
    ),
    fault(
        "fills the disk with files that have lost their names",
        """
        import time
        def solve(n):
            held = []
            for i in range(24):
                held.append(open("f", "wb", 0)); os.unlink("f"); held[-1].write(bytes(16 << 20))
            time.sleep(60)
        import os
        """,
        "failed",
        "output_limit",
        "timeout",
    ),
    fault(
        "one huge file",
        """
        def solve(n):
            with open("f", "wb") as file:
                for _ in range(100): file.write(bytes(16 << 20))
        """,
        "failed",
        "timeout",
        "output_limit",
    ),
    fault(
        "too many files",
        """
        def solve(n):
            for i in range(100000): open(f"f{i}", "w").close()
        """,
        "failed",
        "timeout",
        tier="strong",
    ),
    fault("floods stdout", "def solve(n):\n    while True: print('x' * 1000)", "output_limit"),
    fault(
        "floods stderr",
        """
        import sys
        while True: sys.stderr.write("x" * 1000)
        """,
        "output_limit",
    ),
    fault(
        "floods from a process of its own",
        """
        import subprocess
        def solve(n): subprocess.run(["yes"])
        """,
        "output_limit",
    ),
    fault("recursion without end", "def solve(n): return solve(n)", "failed"),
    fault(
        "recursion without a limit",
        """
        import sys
        sys.setrecursionlimit(10**9)
        def solve(n): return solve(n) + 1
        """,
        "crashed",
        "memory",
        "timeout",
        "failed",
    ),
    fault("segmentation fault", "import ctypes\ndef solve(n): ctypes.string_at(0)", "crashed"),
    fault("abort", "import os\ndef solve(n): os.abort()", "crashed"),
    fault(
        "endless iterator",
        """
        import itertools
        def solve(n): return itertools.count()
        """,
        "failed",
        "timeout",
        "memory",
    ),
    fault(
        "endless nesting",
        """
        def solve(n):
            x = []
            x.append(x)
            return x
        """,
        "failed",
    ),
    fault("value too large to cross", "def solve(n): return 'x' * (20 << 20)", "failed", "timeout"),
    fault("value that cannot cross", "def solve(n): return object()", "failed"),
    fault(
        "exception that cannot be printed",
        """
        class Bad(Exception):
            def __str__(self): raise RuntimeError
            def __repr__(self): raise RuntimeError
        def solve(n): raise Bad(object())
        """,
        "failed",
    ),
    fault(
        "closes every descriptor",
        """
        import os
        def solve(n): os.closerange(0, 256)
        """,
        "crashed",
    ),
    fault(
        "leaves a process that holds its pipes",
        """
        import subprocess
        def solve(n): subprocess.Popen(["sleep", "60"], start_new_session=True)
        """,
        "failed",
    ),
    fault(
        "leaves deep folders and locked files",
        """
        import os
        def solve(n):
            here = os.getcwd()
            for i in range(2000):
                os.mkdir("d"); os.chdir("d")
            os.chdir(here)
            os.mkdir("-rf \\n*"); os.mkdir("locked"); open("locked/x", "w").close()
            fd = os.open("locked", os.O_RDONLY); os.fchmod(fd, 0); os.close(fd)
            os.mkfifo("pipe"); os.symlink("/", "root")
        """,
        "failed",
        "timeout",
    ),
]
