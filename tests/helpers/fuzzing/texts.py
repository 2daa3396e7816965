"""Bad recipes, overrides, arguments, data files and source files."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

from helpers.fuzzing.command import Case
from helpers.fuzzing.values import JSON_VALUES, SCALARS, alias_bomb, damaged, deep_list, garbage

from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.recipe.section import section_of

RECIPE_TEXTS = {
    "empty": b"",
    "spaces": b" \n\t",
    "binary": bytes(range(256)) * 4,
    "utf-16": "name: x".encode("utf-16"),
    "a list": b"- 1\n- 2\n",
    "a number": b"17",
    "two documents": b"name: x\n---\nname: y\n",
    "deep flow lists": b"name: " + deep_list(20_000).encode(),
    "deep mappings": ("a: {" * 3000 + "}" * 3000).encode(),
    "alias bomb": (alias_bomb() + "\nname: *a8\n").encode(),
    "alias bomb in a value": (alias_bomb() + "\nmodel: {base: *a8}\nname: x\n").encode(),
    "merge bomb": b"a: &a {x: 1}\n" + b"b: {<<: [" + b"*a, " * 9000 + b"*a]}\n",
    "alias loop": b"name: &a [*a]\n",
    "alias loop of mappings": b"model: &m {base: *m}\nname: x\n",
    "a tag": b"name: !!python/object/apply:os.system [echo]\n",
    "an unknown tag": b"name: !secret x\n",
    "a lone surrogate": b'name: "\\ud800"\n',
    "a null character": b"name: x\x00y\n",
    "a tab": b"name:\n\tx: 1\n",
    "unclosed": b"name: [1, 2\n",
    "key twice": b"name: x\nname: y\n",
    "a key that is a list": b"? [1, 2]\n: x\n",
    "a long key": b"x" * 200_000 + b": 1\n",
    "a huge whole number": b"name: x\nseed: " + b"9" * 100_000 + b"\n",
    "bad escape": b'name: "\\q"\n',
    "control characters": b"name: \x07\x1b[31m\n",
}


def recipe_files(rng: random.Random) -> Iterator[Case]:
    for name, data in RECIPE_TEXTS.items():
        for command in ("train", "synth"):
            yield Case(
                "recipe file",
                f"{command}: {name}",
                [command, "bad.yaml"],
                ("bad.yaml",),
                must_fail=True,
                prepare=writes("bad.yaml", data),
            )
    for number in range(40):
        seed = rng.randrange(2**31)

        def prepare(folder: Path, seed: int = seed) -> None:
            text = (folder / "recipe.yaml").read_bytes()
            (folder / "bad.yaml").write_bytes(damaged(text, random.Random(seed)))

        yield Case(
            "recipe file", f"damaged {number}", ["estimate", "bad.yaml"], (), prepare=prepare
        )
    places = {
        "a folder": "model",
        "nowhere": "nowhere.yaml",
        "a long name": "x" * 300 + ".yaml",
        "a long path": "/".join(["y" * 100] * 60) + ".yaml",
        "a device": "/dev/zero",
        "an empty name": "",
        "a loop": "loop.yaml",
        "not UTF-8": os.fsdecode(b"\xff\xfe.yaml"),
        "below a file": "code.py/x.yaml",
        "unreadable text": "/dev/null",
    }
    for name, place in places.items():
        for command in ("train", "estimate"):
            yield Case(
                "recipe path", f"{command}: {name}", [command, place], must_fail=True, prepare=_loop
            )


def _loop(folder: Path) -> None:
    (folder / "loop.yaml").symlink_to("loop.yaml")


def writes(name: str, data: bytes | str):
    """Return a preparation that writes one file."""

    def prepare(folder: Path) -> None:
        file = folder / name
        file.unlink(missing_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))

    return prepare


def keys_of(model=Recipe, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        yield from keys_of(inner, f"{prefix}{name}.") if inner else [prefix + name]


def overrides(rng: random.Random) -> Iterator[Case]:
    keys = list(keys_of())
    for number in range(150):
        key, value = rng.choice(keys), rng.choice(SCALARS)
        yield Case(
            "override",
            f"{number}: {key}={value[:20]}",
            ["estimate", "recipe.yaml", "-o", f"{key}={value}"],
        )
    for text in (
        "",
        "=",
        "x",
        ".=1",
        "a..b=1",
        "name",
        "model=1",
        "model.base.x=1",
        "=1",
        "x" * 9000 + "=1",
    ):
        yield Case(
            "override",
            f"malformed {text[:20]!r}",
            ["train", "recipe.yaml", "-o", text],
            must_fail=True,
        )


ARGUMENTS = {
    "scan": [
        ["--fail-on", "nan"],
        ["--fail-on", "-1"],
        ["--fail-on", "1e400"],
        ["--fail-on", "x"],
        ["--cwe", ""],
        ["--cwe", "sql"],
        ["--cwe", "CWE-" + "9" * 5000],
        ["--cwe", "CWE-0"],
        ["--format", "xml"],
        ["--since", "nowhere"],
        ["--since", "--all"],
        ["--since", ""],
        ["--verdict", "maybe"],
        ["--output", "."],
        ["--output", "code.py/x"],
        ["--output", "/dev/full"],
        ["--output", "x" * 300],
        ["--output", "/proc/x"],
        ["--output", ""],
        ["-o", "judge.batch_size=0"],
        ["-o", "judge.max_new_tokens=1e30"],
        ["-o", "model.base=x"],
        ["--api-key-env", ""],
        ["-o", "judge.max_code_chars=-1"],
        ["-o", "judge.cache=/"],
        ["-o", "judge.cache=code.py"],
        ["-o", "judge.cache=" + "x" * 300],
        ["-o", "judge.unsure=[2, 1]"],
    ],
    "eval judge": [
        ["--limit", "0"],
        ["--limit", "9" * 40],
        ["--samples", "1e30"],
        ["--samples", "0"],
        ["--against", "nowhere"],
        ["--against", "code.py"],
        ["--against", "."],
        ["--run-folder", "code.py"],
        ["--run-folder", "/dev/null/x"],
        ["--run-folder", "x" * 300],
        ["--run-folder", "/proc/x"],
        ["--run-folder", "model"],
        ["--adapter", "nowhere"],
        ["--adapter", "code.py"],
        ["--verdict", ""],
        ["--batch-size", "0"],
        ["--adapter", "model"],
        ["--against", "http://127.0.0.1:1/v1"],
    ],
    "eval code": [
        ["--suite", "nowhere.jsonl"],
        ["--suite", "cweval:nowhere"],
        ["--suite", "cweval:"],
        ["--suite", "cyberseceval:code.py"],
        ["--suite", "humaneval:labelled.jsonl"],
        ["--suite", ""],
        ["--suite", "unknown:x"],
        ["--suite", "labelled.jsonl"],
        ["--suite", "tasks.jsonl", "--temperature", "nan"],
        ["--suite", "tasks.jsonl", "--temperature", "-1"],
        ["--suite", "tasks.jsonl", "--seed", "-1"],
        ["--suite", "tasks.jsonl", "--seed", "9" * 30],
        ["--suite", "tasks.jsonl", "--samples", "0"],
        ["--suite", "tasks.jsonl", "--adapter", "code.py"],
        ["--suite", "tasks.jsonl", "--judge", "http://x"],
        ["--suite", "tasks.jsonl", "--run-folder", "model"],
        ["--suite", "seccodeplt:labelled.jsonl"],
        ["--suite", "xscode:labelled.jsonl"],
        ["--suite", "mbppplus:code.py"],
        ["--suite", "tasks.jsonl", "--judge", ""],
        ["--suite", "tasks.jsonl", "--max-completion-tokens", "9" * 30],
        ["--suite", "x" * 5000],
    ],
    "estimate": [
        ["--memory", "0GB"],
        ["--memory", "-1"],
        ["--memory", "9" * 400 + "GB"],
        ["--memory", "nan"],
        ["--card", ""],
        ["--card", "x" * 5000],
        ["--memory", "1e30GB"],
    ],
    "export": [
        ["--format", "zip"],
        ["--format", ""],
        ["--role", "king"],
        ["--output", "code.py"],
        ["--output", "/dev/null"],
        ["--output", "code.py/x"],
        ["--push", "no slash"],
        ["--push", ""],
        ["--output", "x" * 300],
        ["--format", "gguf"],
        ["--format", "gguf-q4_k_m"],
    ],
    "train": [
        ["--stage", "fly"],
        ["--stage", ""],
        ["--run-folder", "code.py"],
        ["--run-folder", "model"],
        ["--run-folder", "/dev/null"],
        ["--run-folder", "x" * 300],
        ["--run-folder", ""],
        ["--run-folder", "a\nb/code.py/x"],
        ["--fresh", "--run-folder", "code.py"],
        ["--bogus"],
        ["--stage", "align"],
    ],
    "bench": [
        ["--steps", "0"],
        ["--steps", "9" * 30],
        ["--memory", "x"],
        ["--layout", "round"],
        ["--judge", "nowhere"],
        ["--random", "nowhere/config.json"],
        ["--random", "code.py"],
        ["--rounds", "0"],
        ["--output", "."],
    ],
    "report": [
        ["nowhere"],
        ["code.py"],
        ["model"],
        [""],
        ["run", "--output", "."],
        ["run", "run", "--output", "/dev/full"],
    ],
    "init": [
        ["code.py"],
        ["new.yaml", "--card", "nothing"],
        ["code.py/x.yaml"],
        ["x" * 300 + ".yaml"],
        ["new.yaml", "--base", ""],
    ],
    "recipes": [["nothing"], ["--schema", "nothing"], ["x" * 5000]],
}
FIRST = {
    "scan": ["scan", "code.py", "--judge", "run"],
    "eval judge": ["eval", "judge", "run", "--data", "labelled.jsonl"],
    "eval code": ["eval", "code", "builtin:tiny"],
    "estimate": ["estimate", "recipe.yaml"],
    "export": ["export", "run"],
    "train": ["train", "recipe.yaml"],
    "bench": ["bench", "recipe.yaml"],
}


def arguments(rng: random.Random) -> Iterator[Case]:
    for command, all_options in ARGUMENTS.items():
        for options in all_options:
            name = f"{command} {' '.join(options)}"[:60]
            yield Case("argument", name, [*FIRST.get(command, [command]), *options])


def data_files(rng: random.Random) -> Iterator[Case]:
    commands = {
        "tasks.jsonl": ["eval", "code", "builtin:tiny", "--suite", "bad.jsonl", "--check"],
        "labelled.jsonl": ["eval", "judge", "bandit", "--data", "bad.jsonl", "--limit", "1"],
    }
    texts = {
        "empty": b"",
        "binary": garbage(rng, 300),
        "deep": deep_list(100_000).encode(),
        "null": b"null\n",
        "numbers": b"1\n2\n",
        "unclosed": b'{"a": 1\n',
        "huge number": b'{"a": ' + b"9" * 6000 + b"}\n",
        "list of lists": b"[[1], [2]]",
        "a string": b'"x"',
        "lone surrogate": b'{"code": "\\ud800"}\n',
        "a deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "nul": b"\x00\x00\x00",
        "csv": b"code,language\nx,python\n",
    }
    for source, command in commands.items():
        for name, data in texts.items():
            yield Case(
                "data file",
                f"{source} {name}",
                command,
                ("bad.jsonl",),
                must_fail=True,
                prepare=writes("bad.jsonl", data),
            )
        for number in range(60):
            yield Case(
                "data value",
                f"{source} {number}",
                command,
                prepare=_with_bad_value(source, rng.randrange(2**31)),
            )
        for number in range(15):
            yield Case(
                "data file",
                f"{source} damaged {number}",
                command,
                prepare=_damaged_copy(source, rng.randrange(2**31)),
            )
    for ending in (".parquet", ".arrow", ".json", ".csv", ".txt", ""):
        name = f"bad{ending}"
        command = ["eval", "judge", "bandit", "--data", name]
        yield Case(
            "data file",
            f"garbage{ending}",
            command,
            (name,),
            must_fail=True,
            prepare=writes(name, garbage(rng, 500)),
        )
    for place in (
        "model",
        "/dev/null",
        "nowhere/at/all.jsonl",
        "",
        "x" * 5000,
        "builtin:none",
        os.fsdecode(b"\xff.jsonl"),
    ):
        yield Case(
            "data path", place[:30], ["eval", "judge", "bandit", "--data", place], must_fail=True
        )


def _with_bad_value(source: str, seed: int):
    def prepare(folder: Path) -> None:
        rng = random.Random(seed)
        rows = [json.loads(line) for line in (folder / source).read_text().splitlines()]
        for row in rows if rng.random() < 0.5 else rows[:1]:
            key = rng.choice(list(row))
            row[key] = rng.choice(JSON_VALUES)
            if rng.random() < 0.2:
                del row[rng.choice(list(row))]
        (folder / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return prepare


def _damaged_copy(source: str, seed: int):
    def prepare(folder: Path) -> None:
        data = (folder / source).read_bytes()
        (folder / "bad.jsonl").write_bytes(damaged(data, random.Random(seed)))

    return prepare


SOURCES = {
    "deep.py": b"(" * 20_000 + b")" * 20_000,
    "deep.js": b"function f(){" * 3000 + b"}" * 3000,
    "binary.py": bytes(range(256)) * 50,
    "one_line.js": b"function f(){" + b"a();" * 100_000 + b"}",
    "surrogate.py": b"def f():\n    return '\xed\xa0\x80'\n",
    "empty.c": b"",
    "nul.c": b"int f() { return 0; }\x00int g() { return 1; }",
    "bom.java": b"\xff\xfe" + "class A { void f() { } }".encode("utf-16-le"),
}


def sources(rng: random.Random) -> Iterator[Case]:
    for name, data in SOURCES.items():
        yield Case("source", name, ["scan", name, "--judge", "run"], prepare=writes(name, data))
    for name in ("pipe.py", "loop.py", "gone.py", os.fsdecode(b"\xff.py"), "x" * 300 + ".py"):
        yield Case(
            "source path", repr(name)[:30], ["scan", name, "--judge", "run"], prepare=_odd_files
        )
    for judge in (
        "nowhere",
        "code.py",
        "",
        "model/config.json",
        "http://",
        "http://127.0.0.1:1/v1",
        "http://127.0.0.1:1/v1#m",
        "http://[::1#m",
        "x" * 5000,
        "./nowhere",
        "runs/nothing",
        "builtin:none",
    ):
        yield Case(
            "judge name",
            judge[:30],
            ["scan", "code.py", "--judge", judge, "-o", "judge.endpoint.attempts=1"]
            if "#m" in judge
            else ["scan", "code.py", "--judge", judge],
            must_fail=True,
        )


def _odd_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe.py")
    (folder / "loop.py").symlink_to("loop.py")
    (folder / os.fsdecode(b"\xff.py")).write_text("def f():\n    eval(input())\n")
