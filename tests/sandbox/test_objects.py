"""Objects that cross as handles: instances, functions, iterators, coroutines, and callbacks."""

import textwrap

import pytest
from helpers.sandbox.calls import run

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.sandbox import Sandbox

CODE = """
import asyncio, itertools, os
from collections import namedtuple, OrderedDict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, Flag
from fractions import Fraction
from functools import lru_cache, total_ordering
from typing import NamedTuple
from uuid import UUID

class Stack:
    limit = 3
    def __init__(self, items=()): self.items = list(items)
    def push(self, item):
        if len(self.items) >= self.limit: raise OverflowError("full")
        self.items.append(item)
        return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __contains__(self, item): return item in self.items
    def __getitem__(self, place): return self.items[place]
    def __str__(self): return f"Stack of {len(self)}"
    @property
    def top(self): return self.items[-1]
    @classmethod
    def of(cls, *items): return cls(items)
class SmallStack(Stack):
    limit = 1

@total_ordering
class Version:
    def __init__(self, text): self.parts = [int(part) for part in text.split(".")]
    def __eq__(self, other): return self.parts == other.parts
    def __lt__(self, other): return self.parts < other.parts
    def __add__(self, n): return Version(".".join(map(str, [*self.parts, n])))

@dataclass
class Point:
    x: int
    y: int = 0
    tags: list = field(default_factory=list)
    def far(self): return self.x + self.y
Pair = namedtuple("Pair", "left right")
class Size(NamedTuple):
    width: int
    height: int
    def area(self): return self.width * self.height
class Color(Enum):
    RED = 1
    BLUE = "b"
    def shout(self): return self.name + "!"
class Level(IntEnum):
    LOW = 1
    HIGH = 2
class Rights(Flag):
    READ = 1
    WRITE = 2

class Denied(Exception):
    def __init__(self, code): super().__init__(f"code {code}"); self.code = code
def deny(code): raise Denied(code)

def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return step
def naturals(): yield from itertools.count()
def echo():
    got = yield "ready"
    while True: got = yield got * 2
def few():
    yield 1
    yield 2
    raise ValueError("no more")
@lru_cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
async def fetch(x):
    await asyncio.sleep(0.001)
    if x < 0: raise ValueError("negative")
    return x * 2
async def wait(s): await asyncio.sleep(s)
async def stream(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i
class Session:
    closed = False
    def __enter__(self): return self
    def __exit__(self, *error): self.closed = True
    async def __aenter__(self): return self
    async def __aexit__(self, *error): self.closed = True
    async def get(self): return "got"
def pick(name): return Color[name]
def tomorrow(day): return day + timedelta(days=1)
def same(value): return value
def twice(f, x): return f(f(x))
def each(items, visit):
    for item in items: visit(item)
def total(items): return sum(items)
async def call_async(f, x): return await f(x) + 1
def guarded(f):
    try: return f()
    except KeyError as error: return f"caught {error.args[0]}"
def save(store, name): store.put(name, len(name)); return store.get(name)
def lines(file): return [line.strip() for line in file]
def read(url, opener): return opener.open(url).text
def key(): return os.environ["APP_KEY"]
def has_key(): return "APP_KEY" in os.environ
def here(): return sorted(os.listdir("."))
LIMIT = 7
def limit(): return LIMIT
_hidden = 1
"""

PASSING = {
    "instances": """
        s = Stack()
        assert s.push(1) is s
        assert s.pop() == 1 and len(s) == 0 and not s
        s = Stack([4, 5])
        assert s and 5 in s and 9 not in s and list(s) == [4, 5] and s[0] == 4 and s.top == 5
        assert s.items == [4, 5] and str(s) == "Stack of 2"
        assert isinstance(s, Stack) and not isinstance(s, Version) and Stack.limit == 3
        assert isinstance(SmallStack.of(1), Stack) and issubclass(SmallStack, Stack)
        assert isinstance(Stack.of(1, 2), Stack) and not isinstance([], Stack)
        s.limit = 9
        assert s.limit == 9 and Stack.limit == 3 and hasattr(s, "pop") and not hasattr(s, "no")
        with pytest.raises(OverflowError):
            SmallStack([1]).push(2)
        with pytest.raises(TypeError):
            len(Session())
        assert s != Stack([4, 5])
    """,
    "comparison": """
        assert Version("1.2") == Version("1.2") and Version("1.2") != Version("1.3")
        assert Version("1.2") < Version("1.10") and Version("2.0") >= Version("1.9")
        assert Version("1.2") + 3 == Version("1.2.3")
        assert max([Version("1"), Version("3")], key=lambda v: v.parts).parts == [3]
        assert Version("1") != 1 and not Version("1") == "1"
    """,
    "dataclass": """
        import dataclasses
        p = Point(1, 2)
        assert (p.x, p.y) == (1, 2) and p == Point(1, 2) and p != Point(1, 3)
        assert p.far() == 3 and dataclasses.asdict(p) == {"x": 1, "y": 2, "tags": []}
        p.x = 5
        assert p.far() == 7 and same(p) is p and [p] == [Point(5, 2)]
        assert repr(Point(1)) == "Point(x=1, y=0, tags=[])"
    """,
    "named tuple": """
        p = Pair(1, 2)
        assert p.left == 1 and p == (1, 2) and p == Pair(1, right=2)
        assert p._replace(left=3) == (3, 2)
        left, right = same(p)
        assert right == 2 and isinstance(p, tuple) and isinstance(p, Pair)
        assert Size(2, 3).area() == 6 and Size(2, 3).height == 3
    """,
    "enum": """
        from http import HTTPStatus
        assert pick("RED") is Color.RED and pick("BLUE") == Color.BLUE and Color.RED != Color.BLUE
        assert Color.RED.value == 1 and Color.BLUE.name == "BLUE" and len(Color) == 2
        assert Color(1) is Color.RED and Color["BLUE"].value == "b" and Color.RED.shout() == "RED!"
        assert same(Color.RED) is Color.RED and isinstance(pick("RED"), Color)
        assert same(Level.HIGH) == 2 and Level.HIGH > Level.LOW and Level.HIGH.name == "HIGH"
        assert same(Rights.READ | Rights.WRITE) == Rights.READ | Rights.WRITE
        assert same(HTTPStatus.OK) is HTTPStatus.OK and {Color.RED: 1}[pick("RED")] == 1
    """,
    "standard values": """
        from datetime import date, datetime, time, timedelta, timezone
        from decimal import Decimal
        from fractions import Fraction
        from uuid import UUID
        from zoneinfo import ZoneInfo
        from pathlib import Path
        from collections import deque
        from ipaddress import ip_address
        assert tomorrow(date(2024, 2, 28)) == date(2024, 2, 29)
        for value in [datetime(2024, 1, 2, 3, 4, 5, 6), datetime(2024, 1, 1, tzinfo=timezone.utc),
                      datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), time(1, 2, fold=1),
                      timedelta(days=-1, microseconds=3), Decimal("0.30"), Decimal("NaN").is_nan(),
                      Fraction(1, 3), UUID(int=7), 1 + 2j, deque([1, 2], 5), ip_address("::1"),
                      Path("a") / "b", [Decimal(1), {"d": date(2024, 1, 1)}], range(3) and None]:
            back = same(value)
            assert back == value and type(back) is type(value), value
        assert str(same(Decimal("0.30"))) == "0.30"
        assert same(datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))).tzinfo.key
    """,
    "functions": """
        c = counter()
        assert [c(), c()] == [1, 2] and counter()() == 1
        fib.cache_clear()
        assert fib(10) == 55 and fib.cache_info().hits > 0
        assert fetch.__name__ == "fetch"
    """,
    "iterators": """
        from itertools import islice
        assert list(islice(naturals(), 3)) == [0, 1, 2]
        assert list(islice(naturals(), 400))[399] == 399
        e = echo()
        assert next(e) == "ready" and e.send(4) == 8
        got = []
        with pytest.raises(ValueError):
            for item in few():
                got.append(item)
        assert got == [1, 2]
        assert next(iter(Stack([6]))) == 6
    """,
    "coroutines": """
        import asyncio
        assert asyncio.run(fetch(2)) == 4
        async def both(): return await asyncio.gather(fetch(1), fetch(2))
        assert asyncio.run(both()) == [2, 4]
        async def streamed(): return [i async for i in stream(3)]
        assert asyncio.run(streamed()) == [0, 1, 2]
        with pytest.raises(ValueError):
            asyncio.run(fetch(-1))
        async def managed():
            async with Session() as session:
                assert await session.get() == "got"
            return session.closed
        assert asyncio.run(managed())
        async def hurried():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(9), 0.05)
        asyncio.run(hurried())
        async def plus(x):
            await asyncio.sleep(0.001)
            return x + 1
        assert asyncio.run(call_async(plus, 1)) == 3
    """,
    "context managers": """
        with Session() as session:
            assert not session.closed
        assert session.closed
    """,
    "callbacks": """
        import functools, io, operator
        assert twice(lambda n: n + 1, 1) == 3 and twice(abs, -3) == 3
        assert twice(functools.partial(pow, 2), 2) == 16
        seen = []
        each([1, 2], seen.append)
        assert seen == [1, 2]
        assert total(n * n for n in [1, 2, 3]) == 14
        def fail(): raise KeyError("k")
        assert guarded(fail) == "caught k"
        class Store:
            def __init__(self): self.data = {}
            def put(self, name, value): self.data[name] = value
            def get(self, name): return self.data[name]
        store = Store()
        assert save(store, "four") == 4 and store.data == {"four": 4}
        assert lines(io.StringIO("a\\nb\\n")) == ["a", "b"]
        s = Store()
        assert same(s) is s
        assert twice(lambda n: total([n, 1]), 1) == 3
    """,
    "mocks": """
        from unittest.mock import MagicMock, patch
        import candidate
        opener = MagicMock()
        opener.open.return_value.text = "page"
        assert read("u", opener) == "page"
        opener.open.assert_called_once_with("u")
        with patch("candidate.LIMIT", 9):
            assert limit() == 9
        assert limit() == 7
        with patch.object(candidate, "same", return_value=3) as fake:
            assert candidate.same(1) == 3
    """,
    "exceptions": """
        with pytest.raises(Denied) as caught:
            deny(7)
        assert caught.value.code == 7 and str(caught.value) == "code 7"
        error = ValueError("x")
        assert same(error).args == ("x",) and same(KeyError) is KeyError
        assert type(same(caught.value)) is Denied
    """,
    "environment": """
        import os
        os.environ["APP_KEY"] = "s3"
        assert key() == "s3"
        del os.environ["APP_KEY"]
        assert not has_key()
        os.mkdir("sub")
        open("sub/file", "w").close()
        os.chdir("sub")
        assert here() == ["file"]
    """,
}


@pytest.mark.parametrize("name", PASSING)
def test_objects_of_the_candidate_can_be_tested_like_in_one_process(
    sandbox: Sandbox, name: str
) -> None:
    body = textwrap.indent(textwrap.dedent(PASSING[name]), "    ")
    names = "Stack, SmallStack, Version, Point, Pair, Size, Color, Level, Rights, Denied, Session"
    more = "deny, counter, naturals, echo, few, fib, fetch, stream, pick, tomorrow, same, twice"
    rest = "wait, each, total, call_async, guarded, save, lines, read, key, has_key, here, limit"
    tests = f"from candidate import {names}, {more}, {rest}\ndef test_it():\n{body}"
    result = run(sandbox, CODE, tests)
    assert result.status == "passed", result.output


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ("import threading\ndef test_a(): same(threading.Lock())", "test_a: .*lock"),
        ("import sys\ndef test_a(): same(sys)", "type module"),
        ("def test_a(): same(pytest.approx(1))", "Approx"),
    ],
)
def test_argument_that_cannot_cross_is_the_fault_of_the_tests(
    sandbox: Sandbox, tests: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        run(sandbox, "def same(x): return x", f"from candidate import same\n{tests}\n")


def test_value_that_grew_too_large_is_the_fault_of_the_code(sandbox: Sandbox) -> None:
    code = "def same(x): return x\ndef large(): return 'x' * (5 << 20)"
    tests = "from candidate import *\ndef test_a(): same([large(), large()])"
    assert run(sandbox, code, tests).status == "failed"


@pytest.mark.parametrize(
    ("expect", "given", "passes"),
    [
        ({"1": 2, "2": 1}, "{1: 2, 2: 1}", True),
        ({"1": 2}, "{1: 2, '1': 2}", False),
        ({"1.5": 0, "true": 1, "null": 2}, "{1.5: 0, True: 1, None: 2}", True),
        ({"x": 1, "y": [2]}, "Point(1, (2,))", True),
        ({"x": 1}, "Point(1, 2)", False),
        ([1, 2], "Pair(1, 2)", True),
        ({"left": 1, "right": 2}, "Pair(1, 2)", True),
        (1, "Color.RED", True),
        ([0, 1, 2], "iter(range(3))", True),
        ("2024-02-29", "datetime.date(2024, 2, 29)", True),
        ("0.30", "decimal.Decimal('0.30')", True),
        (0.3, "decimal.Decimal('0.3')", True),
        (1, "decimal.Decimal('1.5')", False),
        ([1, 2], "{2, 1}", True),
        ([1, 2], "collections.deque([1, 2])", True),
        (7, "Any()", False),
    ],
)
def test_plain_cases_compare_records_by_what_json_can_say(
    sandbox: Sandbox, expect: object, given: str, passes: bool
) -> None:
    code = f"""
import collections, dataclasses, datetime, decimal, enum
@dataclasses.dataclass
class Point:
    x: object
    y: object
Pair = collections.namedtuple("Pair", "left right")
class Color(enum.Enum): RED = 1
class Any:
    def __eq__(self, other): return True
def f(): return {given}
"""
    tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": expect}]}
    result = sandbox.run_tests(code, "python", tests)
    assert (result.status == "passed") is passes, result.output


COUNTING = """
import functools
from collections import Counter

def letters(text): return Counter(text)
def commonest(counted): return counted.most_common(1)
def plus_one(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args) + 1
    return wrapper
def add(a, b):
    "Add two numbers."
    return a + b
class Row:
    def __init__(self, *items): self.items = items
    def __getitem__(self, place): return list(self.items[place])
class Base:
    def run(self): return 1
"""


def test_counters_slices_and_names_of_functions_cross(sandbox: Sandbox) -> None:
    tests = """
    from collections import Counter
    from candidate import Row, add, commonest, letters, plus_one
    def test_counter():
        assert letters("aab") == Counter("aab") and letters("aab").most_common(1) == [("a", 2)]
        assert letters("a")["z"] == 0 and commonest(Counter("aab")) == [("a", 2)]
    def test_slice():
        assert Row(1, 2, 3)[:2] == [1, 2] and Row(1, 2, 3)[::-2] == [3, 1]
    def test_names():
        @plus_one
        def double(n):
            "Double it."
            return 2 * n
        assert (double(1), double.__name__, double.__doc__) == (3, "double", "Double it.")
        assert add.__doc__ == "Add two numbers."
    """
    result = run(sandbox, COUNTING, tests)
    assert result.status == "passed", result.output


def test_a_counter_equals_the_object_of_its_counts(sandbox: Sandbox) -> None:
    case = {"args": ["aab"], "expect": {"a": 2, "b": 1}}
    tests = {"kind": "calls", "entry_point": "letters", "functionality": [case]}
    assert sandbox.run_tests(COUNTING, "python", tests).status == "passed"


def test_a_class_of_the_code_as_a_base_is_a_fault_of_the_tests(sandbox: Sandbox) -> None:
    tests = "from candidate import Base\ndef test_a():\n    class Own(Base): pass\n"
    with pytest.raises(DataError, match=r"test_a: .*Base\) cannot be derived from"):
        run(sandbox, COUNTING, tests)
