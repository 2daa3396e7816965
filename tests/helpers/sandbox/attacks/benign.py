"""Ordinary candidates, which the sandbox must not break."""

from helpers.sandbox.attacks.case import benign

BENIGN = [
    benign("prints", "def f():\n    print('x' * 1000)\n    return 1", "assert f() == 1"),
    benign(
        "writes to stderr",
        "import sys\ndef f(): return sys.stderr.write('warn')",
        "assert f() == 4",
    ),
    benign(
        "threads",
        """
        import threading
        def f():
            out = []
            threads = [threading.Thread(target=out.append, args=(i,)) for i in range(4)]
            [t.start() for t in threads]; [t.join() for t in threads]
            return sorted(out)
        """,
        "assert f() == [0, 1, 2, 3]",
    ),
    benign(
        "temporary files",
        """
        import tempfile, os
        def f():
            with tempfile.TemporaryDirectory() as d:
                open(os.path.join(d, "a"), "w").write("x")
                return os.listdir(d)
        """,
        "assert f() == ['a']",
    ),
    benign(
        "subclasses come back as their plain base",
        """
        import collections, enum
        class Colour(enum.IntEnum): RED = 1
        class Name(str): pass
        Point = collections.namedtuple("Point", "x y")
        def f():
            return [Colour.RED, Name("n"), Point(1, 2), collections.Counter("aab"),
                    collections.OrderedDict(a=1), collections.defaultdict(int, b=2)]
        """,
        "assert f() == [1, 'n', (1, 2), {'a': 2, 'b': 1}, {'a': 1}, {'b': 2}]",
    ),
    benign(
        "subprocess",
        """
        import subprocess
        def f(text): return subprocess.run(["tr", "a-z", "A-Z"], input=text, capture_output=True,
                                           text=True).stdout
        """,
        "assert f('abc') == 'ABC'",
    ),
    benign(
        "its own Python",
        """
        import subprocess, sys
        def f(): return subprocess.check_output([sys.executable, "-c", "print(6 * 7)"])
        """,
        "assert f().strip() == b'42'",
    ),
    benign(
        "database",
        """
        import sqlite3
        def f(name):
            con = sqlite3.connect("a.db"); con.execute("create table if not exists t (n)")
            con.execute("insert into t values (?)", (name,)); con.commit()
            return [r[0] for r in con.execute("select n from t")]
        """,
        'assert f("\'; drop table t; --") == ["\'; drop table t; --"]',
    ),
    benign(
        "asynchronous",
        """
        import asyncio
        async def g(x): await asyncio.sleep(0.01); return x
        async def both(): return await asyncio.gather(g(1), g(2))
        def f(): return asyncio.run(both())
        """,
        "assert f() == [1, 2]",
    ),
    benign(
        "processes",
        """
        import multiprocessing
        def f():
            with multiprocessing.get_context("fork").Pool(2) as pool: return pool.map(abs, [-1, 2])
        """,
        "assert f() == [1, 2]",
        tier="strong",
    ),
    benign(
        "state between calls",
        "n = 0\ndef f():\n    global n\n    n += 1\n    return n",
        "assert [f(), f()] == [1, 2]",
    ),
    benign(
        "main guard",
        "def f(): return 1\nif __name__ == '__main__': raise SystemExit(1)",
        "assert f() == 1",
    ),
    benign(
        "annotations and dataclasses",
        """
        from __future__ import annotations
        import dataclasses, typing
        @dataclasses.dataclass
        class Item:
            price: float
            name: str = "x"
        def f(price: float) -> dict[str, typing.Any]: return dataclasses.asdict(Item(price))
        """,
        "assert f(1.5) == {'price': 1.5, 'name': 'x'}",
    ),
    benign("large values", "def f(x): return x * 2", "assert len(f('a' * 10**6)) == 2 * 10**6"),
    benign("recursion", "def f(n): return n and 1 + f(n - 1)", "assert f(800) == 800"),
    benign("a bit slow", "import time\ndef f(): time.sleep(0.3); return 1", "assert f() == 1"),
    benign(
        "own exceptions with arguments",
        """
        class Denied(PermissionError):
            def __init__(self, who, code): super().__init__(f"{who} denied"); self.code = code
        def f(who): raise Denied(who, 3)
        """,
        """
        with pytest.raises(candidate.Denied, match="eve denied"): f("eve")
        with pytest.raises(PermissionError): f("eve")
        """,
    ),
    benign(
        "file permissions",
        """
        import os
        def f(path):
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
                file.write("s")
        """,
        """
        f(tmp_path / "secret")
        assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
        with pytest.raises(FileExistsError): f(tmp_path / "secret")
        """,
    ),
    benign(
        "reads standard input",
        """
        def f():
            try: return input()
            except EOFError: return "nothing"
        """,
        "assert f() == 'nothing'",
    ),
    benign(
        "random numbers differ",
        """
        import random, secrets
        def f(): return random.random(), secrets.token_hex(8)
        """,
        "assert f() != f()",
    ),
    benign(
        "some tests fail",
        "def f(n): return n",
        "assert f(1) == 2",
        passes=(0, 0),
        statuses=("failed",),
    ),
]
