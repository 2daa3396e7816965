"""Candidates that answer with objects, or misuse objects that the tests pass to them."""

from helpers.sandbox.attacks.case import Case, hack

QUESTIONS = """
from candidate import solve
def test_in(): assert "s3cr3t" in solve(1)
def test_order(): assert 5 < solve(2)
def test_order_2(): assert solve(2) >= 7
def test_prefix(): assert solve(3).startswith("s3cr3t")
def test_equal(): assert solve(4) == {"s3cr3t": 702231}
def test_equal_list(): assert [solve(4)] == [702231]
def test_type(): assert isinstance(solve(5), (str, int, list, dict))
def test_digits(): assert solve(6).isdigit()
"""
LENDING = """
from unittest.mock import MagicMock
from candidate import solve
SECRET = 904117
class Fake:
    def __init__(self): self.calls = []
    def get(self, name): return len(name)
def visit(item): return item
def numbers(): yield SECRET + 0 * len("x")
def test_lent():
    fake, mock, out = Fake(), MagicMock(), []
    mock.check.return_value = 3
    assert solve(visit, fake, mock, out.append, numbers()) == SECRET
def test_mock_is_honest():
    mock = MagicMock()
    solve(visit, Fake(), mock, print, numbers())
    mock.paid.assert_called_once_with(SECRET)
"""
_EVERYTHING = """
class Yes:
    def __contains__(self, item): return True
    def __lt__(self, other): return True
    def __gt__(self, other): return True
    def __le__(self, other): return True
    def __ge__(self, other): return True
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __call__(self, *args): return True
    def startswith(self, text): return True
    def isdigit(self): return True
    def __getattr__(self, name): return Yes()
    def __iter__(self): return iter([Yes()])
    def __len__(self): return 1
    __class__ = property(lambda self: dict)
def solve(n): return Yes()
"""
_SEARCH = """
import gc
FOUND = []
def look(value, depth=0):
    if isinstance(value, int) and value == 904117: FOUND.append(value)
    if depth > 3: return
    names = (
        "__globals__ __code__ __closure__ __self__ __func__ __dict__ __class__ __init__ __module__ "
        "gi_frame f_globals f_back SECRET _mock_parent side_effect configure_mock method_calls "
        "__reduce__ __subclasses__ get"
    ).split()
    for name in names:
        try: look(getattr(value, name), depth + 1)
        except Exception: pass
def solve(*lent):
    for one in lent:
        look(one)
        try: look("{0.__globals__[SECRET]}".format(one))
        except Exception: pass
        for action in ("attr", "state", "set", "special", "next", "call"):
            for name in ("__globals__", "__init__", "__code__", "__getattribute__", "gi_frame"):
                try: look(one._remote_peer.ask(action, one, name))
                except Exception: pass
                try: look(one._remote_peer.ask(action, one, "__getattribute__", name))
                except Exception: pass
    return FOUND[0] if FOUND else 0
"""
_FORGED = """
import json, os, struct
def solve(*lent):
    body = BODY
    data = json.dumps(body).encode()
    os.write(3, struct.pack("!I", len(data)) + data)
    return 0
"""


def _forged(name: str, body: str) -> Case:
    return hack(f"forged frame: {name}", _FORGED.replace("BODY", body))


OBJECTS = [
    hack("object that says yes to everything", _EVERYTHING, tests=QUESTIONS),
    hack(
        "list of objects equal to everything",
        _EVERYTHING.replace("return Yes()\n", "return [Yes(), Yes()]\n").replace(
            "def __getattr__(self, name): return [Yes(), Yes()]", ""
        ),
        tests=QUESTIONS,
    ),
    hack(
        "dataclass and enum equal to everything",
        """
        import dataclasses, enum
        @dataclasses.dataclass
        class Record:
            value: object = 1
            def __eq__(self, other): return True
        class Color(enum.Enum):
            RED = 904117 - 1
            def __eq__(self, other): return True
            __hash__ = object.__hash__
        def solve(n): return Record() if n % 2 else Color.RED
        """,
    ),
    hack(
        "named tuple with an item equal to everything",
        """
        import collections
        class Any:
            def __eq__(self, other): return True
        def solve(n): return collections.namedtuple("P", "x y")(Any(), Any())
        """,
    ),
    hack("searches what the tests lend", _SEARCH, tests=LENDING),
    hack(
        "changes the mock",
        """
        def solve(visit, fake, mock, append, numbers):
            for change in (
                lambda: setattr(mock.paid, "assert_called_once_with", lambda *a: None),
                lambda: mock.paid.configure_mock(**{"assert_called_once_with": lambda *a: None}),
                lambda: setattr(mock, "paid", lambda *a: None),
                lambda: setattr(mock.paid, "call_count", 1),
            ):
                try: change()
                except Exception: pass
            return 0
        """,
        tests=LENDING,
    ),
    hack(
        "evaluates in the tester through a lent function",
        """
        def solve(visit, *lent):
            for name in ("builtins:eval", "builtins:exec", "os:system", "sys:exit"):
                try: visit.__wrapped__
                except Exception: pass
                try: lent[0].get(name)
                except Exception: pass
            return visit("SECRET")
        """,
        tests=LENDING,
    ),
    _forged(
        "a handle without a class",
        '{"t": [2, "returned", {"h": [0, "object", [], [], []]}, {"d": []}]}',
    ),
    _forged("a handle of a builtin", '{"t": [2, "returned", {"c": 0}, {"d": []}]}'),
    _forged("a function by name", '{"t": [2, "returned", {"L": "builtins:eval"}, {"d": []}]}'),
    _forged(
        "a special method",
        '{"t": [2, "returned", {"h": [0, "object", ["str"], ["__init_subclass__"], []]},'
        ' {"d": []}]}',
    ),
    _forged("a question about nothing", '{"t": ["ask", "attr", {"c": 99}, ["x"], {"d": []}]}'),
    _forged("a question of a wrong shape", '{"t": ["ask", "attr"]}'),
    _forged(
        "an enumeration with code",
        '{"t": [2, "returned", {"e": ["candidate.C", "Enum", [["__eq__", 1]], "__eq__", 1, 0]},'
        ' {"d": []}]}',
    ),
    _forged(
        "a huge decimal",
        '{"t": [2, "returned", {"v": ["Decimal", "9" * 20000]}, {"d": []}]}',
    ),
    _forged(
        "a constructor",
        '{"t": [2, "returned", {"v": ["__import__", "os"]}, {"d": []}]}',
    ),
]  # fmt: skip
