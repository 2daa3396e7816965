"""Bad values of many kinds: for recipes, overrides and the fields of data files."""

import random

SCALARS = (
    "1e30",
    "-1e30",
    "1e400",
    str(10**30),
    str(-(10**30)),
    "9" * 5000,
    "0",
    "-1",
    "-0.0",
    "0.5",
    ".inf",
    "-.inf",
    ".nan",
    "true",
    "null",
    "''",
    '"\\ud800"',
    '"\\0"',
    '"a\\nb"',
    "'../../x'",
    "/dev/null",
    "/",
    "nowhere/at/all",
    "x" * 5000,
    "[]",
    "{}",
    "[1]",
    "{a: 1}",
    "[[[[1]]]]",
    "!!python/object:os.system x",
    "!foo bar",
    "&a [*a]",
    "*nothing",
    "!!binary aGk=",
    "!!set {a}",
    "2026-01-01",
    "1:30",
    "0x1F",
    "0o17",
    "1_000",
    "~",
    "'1'",
    "\u202e",
    "\U0001f600",
    "%",
    "@x",
    "`x",
)
JSON_VALUES = (
    None,
    True,
    0,
    -1,
    0.5,
    1e308,
    10**40,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x" * 100_000,
    "\ud800",
    "\x00",
    "../../x",
    [],
    {},
    [1],
    [None],
    [[]],
    {"a": 1},
    {"": None},
    [{"kind": 1}],
    {"kind": "calls"},
    {"kind": "nothing"},
    {"kind": "stdio", "functionality": [1]},
    {"kind": "calls", "entry_point": 3, "functionality": [{}]},
    "CWE-999999",
    ["CWE-" + "9" * 5000],
)


def deep_list(depth: int) -> str:
    return "[" * depth + "]" * depth


def alias_bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def garbage(rng: random.Random, size: int) -> bytes:
    return bytes(rng.randrange(256) for _ in range(size))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut, flip, repeat or overwrite a part of the data."""
    how = rng.randrange(6)
    place = rng.randrange(max(1, len(data)))
    if how == 0:
        return data[:place]
    if how == 1:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if how == 2:
        return data[:place] + garbage(rng, 20) + data[place:]
    if how == 3:
        return data[place:]
    if how == 4:
        return data + data
    return data[:place] + b"\x00" * 50 + data[place + 50 :]
