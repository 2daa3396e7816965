"""What tests may ask of objects besides calling them: copies, fields, signatures, exceptions."""

import textwrap

import pytest
from helpers.sandbox.calls import run

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.sandbox import Sandbox

CODE = """
import asyncio, contextlib, functools
from dataclasses import dataclass, field
@dataclass
class Point:
    x: int
    y: int = 0
    tags: list = field(default_factory=list)
    size: int = field(init=False, default=1)
@dataclass(frozen=True)
class Fixed:
    a: int
@dataclass
class Box:
    point: Point
    items: list
class Node:
    "A node."
    def __init__(self, v): self.v, self.kids = v, []
    def add(self, item, *, twice: bool = False) -> "Node": return self
class Leaf(Node): pass
class Counted:
    def __init__(self, n): self.n = n
    def __copy__(self): return Counted(self.n + 1)
def add(a: int, b: int = 2, *rest, key=None, **named) -> int:
    "Add."
    return a + b
def traced(f):
    @functools.wraps(f)
    def wrapper(*args): return f(*args)
    return wrapper
@traced
def sub(a, b): return a - b
plus_one = functools.partial(add, 1)
def call(f, *args): return f(*args)
def negative(x): return -x
def make_class():
    class Inner:
        z = 1
    return Inner
class Guard:
    seen = None
    def __enter__(self): return self
    def __exit__(self, kind, error, trace):
        self.seen = [kind.__name__, str(error)] if kind else []
        return kind is KeyError
class BadEnter(Guard):
    def __enter__(self): raise OSError("enter")
@contextlib.contextmanager
def managed():
    try: yield 5
    except ValueError: pass
@contextlib.asynccontextmanager
async def managed_later(): yield 3
def words():
    got = yield 1
    while True:
        try: got = yield got
        except ValueError as error: got = f"caught {error}"
def ends():
    yield 1
    return [7]
def closing(log):
    try:
        yield 1
        yield 2
    finally: log.append("closed")
async def later(n):
    for i in range(n):
        try: got = yield i
        except ValueError: got = yield "caught"
        if got: yield got
async def fetch(x): return x
class Base(Exception): pass
class Mine(Base):
    def __init__(self, code, why): super().__init__(code, why); self.code, self.why = code, why
    def __str__(self): return f"{self.code}: {self.why}"
def chained():
    try: {}["k"]
    except KeyError as error: raise Mine(3, "w") from error
def implicit():
    try: {}["k"]
    except KeyError: raise Mine(3, ["w"])
def noted():
    error = ValueError("n")
    error.add_note("a note")
    raise error
def group(): raise ExceptionGroup("several", [ValueError("a"), Mine(1, "b")])
def missing(): open("/no/such")
def raise_it(error): raise error
def returned(): return Mine(4, "x")
"""

TESTS = {
    "replaced dataclass": """
        p = Point(1, 2, [3])
        q = dataclasses.replace(p, x=5)
        assert (q.x, q.y, q.tags, p.x) == (5, 2, [3], 1) and isinstance(q, Point)
        assert dataclasses.replace(Fixed(1), a=2) == Fixed(2)
    """,
    "fields": """
        b = Box(Point(1), [Point(2)])
        assert dataclasses.asdict(b)["items"] == [{"x": 2, "y": 0, "tags": [], "size": 1}]
        assert dataclasses.astuple(Fixed(1)) == (1,)
        for each in (Point, Point(1)):
            fields = dataclasses.fields(each)
            assert [f.name for f in fields] == ["x", "y", "tags", "size"]
            assert fields[0].default is dataclasses.MISSING and fields[1].default == 0
            assert fields[0].type is int and fields[2].default_factory is list
            assert not fields[3].init and dataclasses.is_dataclass(each)
        assert not dataclasses.is_dataclass(Node)
        with pytest.raises(dataclasses.FrozenInstanceError):
            Fixed(1).a = 2
    """,
    "signatures": """
        text = "(a: int, b: int = 2, *rest, key=None, **named) -> int"
        assert str(inspect.signature(add)) == text
        assert inspect.signature(add).parameters["b"].default == 2
        for made, names in [(Node, ["v"]), (Node(1).add, ["item", "twice"]), (sub, ["a", "b"]),
                            (Node.add, ["self", "item", "twice"]), (plus_one, ["b", "rest", "key",
                            "named"])]:
            assert list(inspect.signature(made).parameters) == names
        assert inspect.getfullargspec(add).args == ["a", "b"] and inspect.getdoc(add) == "Add."
        assert typing.get_type_hints(add)["return"] is int and add.__annotations__["a"] is int
    """,
    "kinds": """
        assert inspect.isfunction(add) and inspect.isclass(Node) and isinstance(Node, type)
        assert isinstance(add, types.FunctionType) and not inspect.isclass(add)
        assert inspect.ismethod(Node(1).add) and inspect.isgeneratorfunction(words)
        assert inspect.isgenerator(words()) and inspect.isasyncgenfunction(later)
        assert inspect.iscoroutinefunction(fetch) and asyncio.iscoroutinefunction(fetch)
        c = fetch(1)
        assert inspect.iscoroutine(c) and inspect.isawaitable(c)
        c.close()
    """,
    "copies": """
        n = Node(1)
        m = copy.copy(n)
        m.v = 2
        assert m is not n and n.v == 1 and isinstance(m, Node) and copy.copy(Counted(1)).n == 2
        b = Box(Point(1), [Point(2)])
        c = copy.deepcopy(b)
        assert c == b and c is not b and copy.deepcopy([b]) == [b] and copy.copy([b])[0] is b
        assert copy.copy(add) is add and copy.deepcopy(Node) is Node
    """,
    "classes": """
        p = Point(1)
        assert type(p) is Point and type(p) == Point and p.__class__ is Point
        assert type(p) is not Node and type(p) != Node and type(Leaf(1)) is not Node
        assert type(1) is int and type(p) is type(Point(2)) and type(p).__name__ == "Point"
        assert isinstance(p, type(p)) and isinstance(Leaf(1), Node) and isinstance(p, (int, Point))
        assert isinstance(p, int | Point) and not isinstance(p, Node | int)
        K = make_class()
        assert isinstance(K(), K) and not isinstance(p, K) and type(K()) is K
        assert [c.__name__ for c in Leaf.__mro__] == ["Leaf", "Node", "object"]
        assert Leaf.__bases__ == (Node,) and Leaf.__mro__[1] is Node and issubclass(Leaf, Node)
        assert vars(Node(1)) == {"v": 1, "kids": []} and "add" in dir(Node) and "v" in dir(Node(1))
        assert n.add.__self__ is n if (n := Node(2)) else False
    """,
    "functions": """
        assert functools.partial(add, 1)(3) == 4 and call(functools.partial(add, 1), 4) == 5
        assert plus_one(5) == 6 and plus_one.args == (1,) and plus_one.func(1, 2) == 3
        assert sorted([1, 3, 2], key=negative) == [3, 2, 1] and min([1, 5], key=negative) == 5
        assert functools.reduce(add, [1, 2, 3]) == 6 and list(map(negative, [1])) == [-1]
        cached = functools.lru_cache(add)
        assert cached(1, 2) == cached(1, 2) == 3
        @functools.wraps(add)
        def own(*args): return add(*args)
        assert own(1, 2) == 3 and own.__name__ == "add" and own.__doc__ == "Add."
    """,
    "with": """
        with Guard() as guard: raise KeyError("a")
        assert guard.seen == ["KeyError", "'a'"]
        with pytest.raises(TypeError):
            with guard: raise TypeError("b")
        assert guard.seen == ["TypeError", "b"]
        with guard: pass
        assert guard.seen == []
        with pytest.raises(OSError, match="enter"):
            with BadEnter(): pass
        with managed() as value: raise ValueError(value)
        with pytest.raises(KeyError):
            with managed(): raise KeyError("x")
        async def use():
            async with managed_later() as value: raise ValueError(value)
        with pytest.raises(ValueError): asyncio.run(use())
    """,
    "generators": """
        g = words()
        assert next(g) == 1 and g.send(5) == 5
        assert g.throw(ValueError("q")) == "caught q" and g.throw(ValueError) == "caught "
        with pytest.raises(KeyError): g.throw(KeyError("z"))
        with pytest.raises(StopIteration): next(g)
        class Log:
            items = ()
            def append(self, item): self.items += (item,)
        log = Log()
        g = closing(log)
        next(g)
        g.close()
        assert log.items == ("closed",)
        g = ends()
        next(g)
        with pytest.raises(StopIteration) as stop: next(g)
        assert stop.value.value == [7]
        def outer(): yield (yield from ends())
        assert list(outer()) == [1, [7]] and list(itertools.tee(ends())[1]) == [1]
    """,
    "asynchronous generators": """
        async def use():
            g = later(3)
            first, sent = await anext(g), await g.asend("hi")
            await g.aclose()
            other = later(3)
            await anext(other)
            return first, sent, await other.athrow(ValueError("x")), await anext(later(0), "none")
        assert asyncio.run(use()) == (0, "hi", "caught", "none")
    """,
    "exceptions": """
        with pytest.raises(Mine, match="3: w") as caught: chained()
        e = caught.value
        assert str(e) == "3: w" and e.args == (3, "w") and isinstance(e.__cause__, KeyError)
        assert e.__cause__.args == ("k",) and caught.type is Mine and caught.typename == "Mine"
        with pytest.raises(Base) as caught: implicit()
        assert isinstance(caught.value.__context__, KeyError) and caught.value.why == ["w"]
        with pytest.raises(ValueError) as caught: noted()
        assert caught.value.__notes__ == ["a note"]
        with pytest.raises(ExceptionGroup, match="several") as caught: group()
        assert [type(each) for each in caught.value.exceptions] == [ValueError, Mine]
        with pytest.raises(FileNotFoundError) as caught: missing()
        assert caught.value.filename == "/no/such" and caught.value.errno == 2
    """,
    "exceptions that the tests make": """
        e = Mine(1, why="a")
        assert (e.code, e.why, str(e)) == (1, "a", "1: a") and isinstance(e, Base)
        with pytest.raises(TypeError): Mine()
        with pytest.raises(Mine) as caught: raise_it(e)
        assert caught.value.code == 1 and returned().code == 4 and str(returned()) == "4: x"
        class Own(Base): pass
        assert issubclass(Own, Base) and str(Own("o")) == "o"
    """,
}
IMPORTS = """
import asyncio, copy, dataclasses, functools, inspect, itertools, pickle, types, typing
from candidate import *
"""


@pytest.mark.parametrize("name", TESTS)
def test_proxies_answer_like_the_objects_themselves(sandbox: Sandbox, name: str) -> None:
    body = textwrap.indent(textwrap.dedent(TESTS[name]), "    ")
    result = run(sandbox, CODE, f"{IMPORTS}\ndef test_it():\n{body}")
    assert result.status == "passed", result.output


@pytest.mark.parametrize("name", TESTS)
def test_the_tables_hold_in_one_process(name: str) -> None:
    scope: dict[str, object] = {"__name__": "candidate", "pytest": pytest}
    exec(IMPORTS.replace("from candidate import *", ""), scope)
    exec(CODE + textwrap.dedent(TESTS[name]), scope)


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("match Point(1):\n        case Point(x=1): pass", "test_it: .*pattern"),
        ("pickle.dumps(Point(1))", "Point.*cannot be pickled"),
        ("with pytest.raises(Mine) as e: chained()\n    e.traceback", "traceback.*not available"),
        ("pytest.importorskip('json')", "importorskip is not available"),
    ],
)
def test_what_proxies_cannot_do_is_the_fault_of_the_tests(
    sandbox: Sandbox, test: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        run(sandbox, CODE, f"{IMPORTS}\ndef test_it():\n    {test}\n")


def test_code_cannot_make_a_missing_answer_the_fault_of_the_tests(sandbox: Sandbox) -> None:
    code = "def f(): raise TypeError('called match pattern must be a type')"
    assert run(sandbox, code, "from candidate import f\ndef test_it(): f()").status == "failed"
