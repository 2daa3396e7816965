"""Values, exceptions and changed arguments that cross between tests and candidate."""

from helpers.sandbox.calls import run

from seccoderx_lite.sandbox import Sandbox


def test_values_of_every_plain_type_cross_unchanged(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        "def same(x): return x",
        """
    import math
    from candidate import same
    VALUES = [None, True, 0, -1, 2**70, 1.5, -0.0, float("inf"), "a", "\\ud800", "\\ud83d\\ude00",
              "\\U0001f600", b"\\x00\\xff", [1, [2]], (1, (2,)), {"a": 1, 2: (3,)}, {1, 2},
              frozenset({3}), bytearray(b"x"), [], (), {}, set(), "", b"", True]
    def test_equal_and_of_the_same_type():
        for value in VALUES:
            back = same(value)
            assert back == value and type(back) is type(value), (value, back)
    def test_nan():
        assert math.isnan(same(float("nan")))
    def test_sign_of_zero():
        assert math.copysign(1, same(-0.0)) == -1
    def test_path(tmp_path):
        assert same(tmp_path) == tmp_path
    """,
    )
    assert result.status == "passed", result.output


def test_exceptions_cross_by_name_and_message(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        """
    import json, sqlite3
    class Mine(Exception): pass
    class Sub(Mine, KeyError): pass
    def fail(kind):
        if kind == "json":
            json.loads("{")
        if kind == "sql":
            sqlite3.connect(":memory:").execute("select nothing")
        if kind == "file":
            open("/does/not/exist")
        if kind == "group":
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        raise {"mine": Mine("a message"), "sub": Sub("k"), "key": KeyError("k")}[kind]
    """,
        """
    import sqlite3
    from candidate import Mine, fail
    def test_own_class():
        with pytest.raises(Mine, match="a mess") as caught:
            fail("mine")
        assert str(caught.value) == "a message"
        assert caught.type is Mine
    def test_own_subclass():
        with pytest.raises(Mine):
            fail("sub")
    def test_builtin():
        with pytest.raises(KeyError) as caught:
            fail("key")
        assert caught.value.args == ("k",)
    def test_subclass_of_builtin():
        with pytest.raises(ValueError):
            fail("json")
    def test_standard_module():
        with pytest.raises(sqlite3.OperationalError):
            fail("sql")
    def test_group():
        with pytest.raises(ExceptionGroup, match="several"):
            fail("group")
    def test_os_error():
        with pytest.raises(FileNotFoundError):
            fail("file")
    def test_wrong_kind_is_not_caught():
        with pytest.raises(AssertionError):
            with pytest.raises(OSError):
                raise AssertionError
        try:
            with pytest.raises(OSError):
                fail("mine")
        except Mine:
            pass
    """,
    )
    assert result.status == "passed", result.output


def test_constants_and_changed_arguments_are_seen(sandbox: Sandbox) -> None:
    result = run(
        sandbox,
        """
    LIMIT = 10
    def sort(numbers, seen): numbers.sort(); seen["n"] = len(numbers)
    def count(n): yield from range(n)
    """,
        """
    from candidate import LIMIT, count, sort
    def test_constant(): assert LIMIT == 10
    def test_in_place():
        numbers, seen = [3, 1, 2], {}
        sort(numbers, seen)
        assert numbers == [1, 2, 3] and seen == {"n": 3}
    def test_generator(): assert list(count(3)) == [0, 1, 2]
    """,
    )
    assert result.status == "passed", result.output
