"""Damaged and foreign files: models, adapters, checkpoints, run folders, caches."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from helpers.fuzzing.command import Case
from helpers.fuzzing.values import damaged, deep_list
from safetensors.torch import load_file, save_file

Prepare = Callable[[Path], None]
WRONG_JSON = (
    "",
    "[]",
    "{}",
    "null",
    "17",
    '"x"',
    "{",
    "[1, 2]",
    '{"a": 1}',
    '{"cold_start": 1}',
    '{"policy": []}',
    deep_list(50_000),
    '{"unsure": 1}',
    '{"verdict": 7}',
    "9" * 6000,
    '{"n": ' + "9" * 6000 + "}",
    "NaN",
    "\x00",
    '{"x": "\\ud800"}',
    '{"judge": 1, "data": 2, "samples": "x", "seed": []}',
)


def scan(judge: str) -> list[str]:
    return ["scan", "code.py", "--judge", judge, "-o", "judge.max_new_tokens=8"]


def with_bytes(name: str, change: Callable[[bytes], bytes]) -> Prepare:
    def prepare(folder: Path) -> None:
        data = change((folder / name).read_bytes())
        (folder / name).unlink()
        (folder / name).write_bytes(data)

    return prepare


def with_json(name: str, **changes: object) -> Prepare:
    """Change some keys of a JSON file; a value of `...` removes the key."""

    def prepare(folder: Path) -> None:
        data = json.loads((folder / name).read_text()) | changes
        data = {key: value for key, value in data.items() if value is not ...}
        (folder / name).write_text(json.dumps(data))

    return prepare


def with_tensors(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Prepare:
    def prepare(folder: Path) -> None:
        tensors = {key: change(value) for key, value in load_file(folder / name).items()}
        (folder / name).unlink()
        save_file(tensors, folder / name, {"format": "pt"})

    return prepare


def gone(name: str) -> Prepare:
    return lambda folder: (folder / name).unlink()


def as_folder(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return prepare


def weights(name: str) -> Iterator[tuple[str, Prepare, bool]]:
    yield "empty", with_bytes(name, lambda data: b""), True
    yield "cut in its header", with_bytes(name, lambda data: data[:100]), True
    yield "cut in its tensors", with_bytes(name, lambda data: data[:-1000]), True
    yield "missing", gone(name), True
    yield "text", with_bytes(name, lambda data: b"version https://git-lfs"), True
    yield "a huge header", with_bytes(name, lambda data: b"\xff" * 8 + data[8:]), True
    yield "a folder", as_folder(name), True
    yield "other shapes", with_tensors(name, lambda t: t[:1].contiguous()), True
    yield "NaN", with_tensors(name, lambda t: torch.full_like(t, float("nan"))), True
    yield "infinity", with_tensors(name, lambda t: torch.full_like(t, float("inf"))), True
    yield "whole numbers", with_tensors(name, lambda t: t.to(torch.int32)), False
    yield "one NaN", with_tensors(name, _one_nan), False


def _one_nan(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[0] = float("nan")
    return changed


def bases(rng: random.Random) -> Iterator[Case]:
    eval_code = [
        "eval",
        "code",
        "model",
        "--suite",
        "tasks.jsonl",
        "--limit",
        "1",
        "--max-completion-tokens",
        "4",
    ]
    for name, prepare, must_fail in weights("model/model.safetensors"):
        yield Case(
            "base", f"scan: weights {name}", scan("model"), must_fail=must_fail, prepare=prepare
        )
        yield Case(
            "base", f"eval code: weights {name}", eval_code, must_fail=must_fail, prepare=prepare
        )
    configs = {
        "hidden_size": (0, -1, 1e30, 10**30, "x", None, 7),
        "num_hidden_layers": (0, -1, 10**9, "x", [1]),
        "vocab_size": (0, -5, 10**15, "x", None),
        "model_type": ("", "nothing", 3, None, "bert"),
        "max_position_embeddings": (0, -1, "x", None, 10**30),
        "num_attention_heads": (0, 3, "x"),
        "architectures": ([], "x", None),
        "quantization_config": ({}, 1),
        "torch_dtype": ("x",),
        "dtype": ("x", 7),
    }
    for key, values in configs.items():
        for value in values:
            prepare = with_json("model/config.json", **{key: value})
            yield Case("base", f"config {key}={str(value)[:20]}", scan("model"), prepare=prepare)
            if key in ("hidden_size", "num_hidden_layers", "vocab_size", "model_type"):
                yield Case(
                    "base",
                    f"estimate: config {key}={str(value)[:20]}",
                    ["estimate", "recipe.yaml", "-o", "model.base=model"],
                    prepare=prepare,
                )
    for file in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ):
        for text in ("", "[]", "{}", "null", "{", deep_list(50_000), "\x00"):
            yield Case(
                "base",
                f"{file} {text[:8]!r}",
                scan("model"),
                prepare=with_bytes(f"model/{file}", lambda data, text=text: text.encode()),
            )
    for template in (
        "{{ x",
        "{% for %}",
        "{{ raise_exception('no') }}",
        "{{ 1/0 }}",
        "",
        "{{ messages.x.y.z }}",
        "{{ ''.__class__.__mro__ }}",
        "{% for a in range(10**12) %}{% endfor %}",
        "hello",
    ):
        yield Case(
            "base",
            f"template {template[:20]}",
            scan("model"),
            prepare=with_bytes(
                "model/chat_template.jinja", lambda data, text=template: text.encode()
            ),
        )
    for number in range(20):
        file = rng.choice(
            (
                "model.safetensors",
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "chat_template.jinja",
            )
        )
        seed = rng.randrange(2**31)
        yield Case(
            "base",
            f"{file} damaged {number}",
            scan("model"),
            prepare=with_bytes(
                f"model/{file}", lambda data, seed=seed: damaged(data, random.Random(seed))
            ),
        )


def adapters(rng: random.Random) -> Iterator[Case]:
    judge, policy = "run/judge/adapter", "run/policy/adapter"
    commands = {
        "scan": (judge, scan("run")),
        "eval judge": (judge, ["eval", "judge", judge, "--data", "labelled.jsonl"]),
        "train": (
            judge,
            [
                "train",
                "recipe.yaml",
                "--run-folder",
                "new",
                "-o",
                f"judge.adapter={judge}",
                "-o",
                "judge.cold_start=null",
            ],
        ),
        "train policy": (
            policy,
            ["train", "recipe.yaml", "--run-folder", "new", "-o", f"policy.adapter={policy}"],
        ),
        "eval code": (
            policy,
            [
                "eval",
                "code",
                "builtin:tiny",
                "--adapter",
                policy,
                "--suite",
                "tasks.jsonl",
                "--limit",
                "1",
                "--max-completion-tokens",
                "4",
            ],
        ),
        "export": (policy, ["export", "run"]),
    }
    for command, (folder, line) in commands.items():
        for name, prepare, must_fail in weights(f"{folder}/adapter_model.safetensors"):
            yield Case("adapter", f"{command}: {name}", line, must_fail=must_fail, prepare=prepare)
    configs = [
        {"base_model_name_or_path": None},
        {"base_model_name_or_path": ...},
        {"base_model_name_or_path": "nowhere"},
        {"base_model_name_or_path": 7},
        {"peft_type": "IA3", "feedforward_modules": []},
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4},
        {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4},
        {"peft_type": "NOTHING"},
        {"peft_type": ...},
        {"peft_type": None},
        {"r": 0},
        {"r": -1},
        {"r": 10**12},
        {"r": "x"},
        {"r": 3},
        {"r": 1e30},
        {"target_modules": []},
        {"target_modules": ["nothing"]},
        {"target_modules": 7},
        {"target_modules": None},
        {"lora_alpha": "x"},
        {"lora_alpha": 1e400},
        {"task_type": "SEQ_CLS"},
        {"task_type": "x"},
        {"unknown_key": 1},
        {"modules_to_save": ["lm_head"]},
        {"use_dora": True},
        {"bias": "x"},
    ]
    for changes in configs:
        for command in ("scan", "train policy"):
            folder, line = commands[command]
            yield Case(
                "adapter",
                f"{command}: {str(changes)[:50]}",
                line,
                prepare=with_json(f"{folder}/adapter_config.json", **changes),
            )
    for text in ("", "[]", "{}", "null", "{", deep_list(50_000)):
        for command in ("scan", "eval judge", "train", "eval code", "export"):
            folder, line = commands[command]
            yield Case(
                "adapter",
                f"{command}: config {text[:8]!r}",
                line,
                must_fail=True,
                prepare=with_bytes(
                    f"{folder}/adapter_config.json", lambda data, text=text: text.encode()
                ),
            )
    yield Case("adapter", "the policy as judge", scan(policy))


def run_folders(rng: random.Random) -> Iterator[Case]:
    commands = (["report", "run"], ["train", "recipe.yaml", "--run-folder", "run"])
    files = (
        "stages.json",
        "environment.json",
        "evaluation.json",
        "metrics.jsonl",
        "answers.jsonl",
        "completions.jsonl",
        "recipe.yaml",
    )
    for file in files:
        for text in rng.sample(WRONG_JSON, 9):
            line = commands[rng.randrange(2)]
            ending = "\n" if file.endswith("jsonl") else ""
            yield Case(
                "run folder",
                f"{line[0]}: {file} {text[:10]!r}",
                line,
                prepare=with_bytes(f"run/{file}", lambda data, text=text + ending: text.encode()),
            )
        for number in range(4):
            seed = rng.randrange(2**31)
            yield Case(
                "run folder",
                f"{file} damaged {number}",
                commands[number % 2],
                prepare=with_bytes(
                    f"run/{file}", lambda data, seed=seed: damaged(data, random.Random(seed))
                ),
            )
        yield Case(
            "run folder", f"{file} is a folder", commands[0], prepare=as_folder(f"run/{file}")
        )
        yield Case("run folder", f"{file} is gone", commands[1], prepare=gone(f"run/{file}"))
    for text in WRONG_JSON:
        yield Case(
            "run folder",
            f"judge.json {text[:10]!r}",
            scan("run"),
            prepare=with_bytes(
                "run/judge/adapter/judge.json", lambda data, text=text: text.encode()
            ),
        )
    regrade = ["eval", "code", "run", "--regrade"]
    for text in rng.sample(WRONG_JSON, 6):
        yield Case(
            "run folder",
            f"regrade: {text[:10]!r}",
            regrade,
            prepare=with_bytes("run/answers.jsonl", lambda data, text=text: text.encode() + b"\n"),
        )
    again = ["eval", "judge", "run", "--data", "labelled.jsonl", "--run-folder", "measured"]
    for file in ("settings.json", "answers.jsonl", "evaluation.json"):
        for text in rng.sample(WRONG_JSON, 5):
            yield Case(
                "evaluation folder", f"{file} {text[:10]!r}", again, prepare=_measured(file, text)
            )
    for file in (
        "trainer_state.json",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "adapter_model.safetensors",
        "adapter_config.json",
        "training_args.bin",
    ):
        for how in ("empty", "cut", "gone"):
            yield Case(
                "checkpoint",
                f"{file} {how}",
                ["train", "recipe.yaml", "--run-folder", "run", "-o", "policy.grpo.steps=2"],
                prepare=_checkpoint(file, how),
            )


def _measured(file: str, text: str) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / "measured").mkdir()
        (folder / "measured" / file).write_text(text)

    return prepare


def _checkpoint(file: str, how: str) -> Prepare:
    def prepare(folder: Path) -> None:
        place = folder / "run/policy/checkpoints/checkpoint-1" / file
        data = place.read_bytes()
        place.unlink()
        if how != "gone":
            place.write_bytes(data[: len(data) // 2] if how == "cut" else b"")

    return prepare


def machine(rng: random.Random) -> Iterator[Case]:
    """The working folder, the cache of verdicts, the disk."""
    with_cache = [*scan("run"), "-o", "judge.cache=cache.db"]
    yield Case(
        "cache",
        "text",
        with_cache,
        prepare=lambda folder: _write(folder / "cache.db", "not a database" * 50),
    )
    yield Case(
        "cache", "a folder", with_cache, prepare=lambda folder: (folder / "cache.db").mkdir()
    )
    yield Case("cache", "of another program", with_cache, prepare=_foreign_database)
    yield Case("cache", "wrong verdicts", with_cache, prepare=_wrong_verdicts)
    yield Case("cache", "locked", with_cache, prepare=_locked)
    for line in (
        ["report", "run"],
        scan("run"),
        ["train", "tiny"],
        ["estimate", "tiny"],
        ["doctor"],
        ["recipes"],
        ["init", "x.yaml"],
        ["eval", "judge", "bandit", "--data", "builtin:tiny"],
        ["eval", "code", "builtin:tiny", "--suite", "builtin:tiny"],
    ):
        yield Case(
            "working folder", f"deleted: {' '.join(line[:2])}", line, prepare=_leave_no_folder
        )
    for output in ("/dev/full", "/proc/self/mem", "/sys/x"):
        yield Case("disk", f"scan to {output}", [*scan("run"), "--output", output])
        yield Case("disk", f"report to {output}", ["report", "run", "run", "--output", output])


def _write(file: Path, text: str) -> None:
    file.write_text(text)


def _foreign_database(folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "cache.db") as database:
        database.execute("CREATE TABLE verdicts (something TEXT)")
    database.close()


def _wrong_verdicts(folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "cache.db") as database:
        database.execute("CREATE VIEW verdicts AS SELECT 1 AS key, '[]' AS verdict")
    database.close()


def _locked(folder: Path) -> None:
    import sqlite3

    database = sqlite3.connect(folder / "cache.db", isolation_level=None)
    database.execute("CREATE TABLE verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL)")
    database.execute("BEGIN EXCLUSIVE")
    _OPEN.append(database)


_OPEN: list = []
"""Keeps locks until the next case."""


def _leave_no_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    assert not os.path.exists(folder)
