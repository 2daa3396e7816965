"""The commands in the READMEs run as they are copied, as far as they can offline."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import run
from helpers.small_runs import run_with_policy
from typer.core import TyperGroup
from typer.main import get_command

from seccoderx_lite.cli.app import app

ROOT = Path(__file__).parent.parent
FOLDERS = ("recipes", "seccoderx_lite", "tests")
PAGES = [ROOT / "README.md", *(p for f in FOLDERS for p in sorted((ROOT / f).rglob("README.md")))]
PROGRAMS = ("seccoderx-lite", "accelerate", "pip", "pytest", "python", "bash", "git")
NETWORK = re.compile(r"https?://|git clone|\bQwen/|\bsven/|\bCWEval\b")
NAMED_OPTION = re.compile(r"--(card|data)$")
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b|\.\.\.")
CLI = get_command(app)
assert isinstance(CLI, TyperGroup)


def in_blocks(page: Path) -> Iterator[str]:
    """The commands in a page's blocks of shell code, one per line."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        text = re.sub(r"\s+# .*", "", block.replace("\\\n", " "))
        yield from (part.strip() for part in re.split(r"\n|&&", text) if part.strip())


def in_lines(page: Path) -> Iterator[str]:
    """The commands in the text of a page; some name a subcommand alone."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", text):
        for command in code.split("&&"):
            first, _, rest = command.strip().partition(" ")
            if rest and first in PROGRAMS:
                yield command.strip()
            elif rest and first in CLI.commands and not re.match(r"[=:({]", rest):
                yield f"seccoderx-lite {command.strip()}"


COMMANDS = sorted({c for page in PAGES for find in (in_blocks, in_lines) for c in find(page)})
OURS = [
    re.sub(r"^.*-m seccoderx_lite", "seccoderx-lite", command)
    for command in COMMANDS
    if command.startswith("seccoderx-lite ") or "-m seccoderx_lite " in command
]


def subcommand(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a line names, and its arguments."""
    found: Any = CLI
    while isinstance(found, TyperGroup) and words and not words[0].startswith("-"):
        assert words[0] in found.commands, f"no command {words[0]}"
        found, words = found.commands[words[0]], words[1:]
    return found, words


@pytest.mark.parametrize("command", OURS)
def test_every_command_and_option_exists(command):
    """Placeholders such as RECIPE stand for any word; an option alone is named, not used."""
    words = shlex.split(command.replace("[", "").replace("]", ""))[1:]
    words += ["1"] if NAMED_OPTION.search(command) else []
    found, rest = subcommand(words)
    context = found.context_class(found, info_name=found.name)
    found.make_parser(context).parse_args(list(rest))


def test_every_file_of_the_checkout_in_a_command_exists():
    words = {word for command in COMMANDS for word in shlex.split(command)}
    places = {
        word.partition("::")[0]
        for word in words
        if re.match(r"(tests|recipes|seccoderx_lite)/", word)
    }
    assert len(places) > 10
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_extra_in_a_command_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {e for c in COMMANDS for e in re.findall(r"install -e '\.\[([\w,-]+)\]'", c)}
    assert {"dev", "gguf", "vllm"} <= named <= set(project["optional-dependencies"])


def offline(commands: Iterable[str], *names: str) -> list[str]:
    """The commands that need no network and no input but what the tests have."""
    return [
        command
        for command in commands
        if command.startswith("seccoderx-lite ")
        and command.split()[1] in names
        and not any(kind.search(command) for kind in (NETWORK, PLACEHOLDER, NAMED_OPTION))
    ]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder like a checkout, to write to."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FAST = offline(OURS, "estimate", "init", "recipes")


@pytest.mark.parametrize("command", FAST)
def test_commands_without_a_model_run(command, checkout):
    """The shape of a model comes from the hub, so here a file with its config stands for it."""
    if "my.yaml" in command and " init " not in command:
        assert run("init", "my.yaml").returncode == 0
    config = ROOT / "tests" / "models" / "configs" / "Qwen2.5-Coder-3B-Instruct.json"
    here = ["-o", f"model.base={config}"] if "qwen2.5-coder-3b" in command else []
    done = run(*shlex.split(command)[1:], *here)
    assert done.returncode == 0, done.stdout + done.stderr


SHORTER = {
    "train": [
        *("-o", "judge.cold_start.steps=2", "-o", "judge.align.steps=1"),
        *("-o", "judge.canaries.refuse_chance=false", "-o", "judge.canaries.min_accuracy=0"),
        *("-o", "policy.grpo.steps=2", "-o", "policy.grpo.max_completion_tokens=24"),
        *("-o", "evaluate.limit=2", "-o", "evaluate.samples=1", "-o", "export.gate_tasks=1"),
        *("-o", "export.max_kl=100", "-o", "evaluate.max_completion_tokens=24"),
    ],
    "eval": ["--limit", "2", "--samples", "1", "-o", "evaluate.max_completion_tokens=24"],
    "synth": ["-o", "seeds.limit=4"],
}
"""What makes a command end soon; a later option overrides an earlier one."""
SLOW = offline({c for page in PAGES for c in in_blocks(page)}, *SHORTER, "scan")


def test_the_commands_that_run_are_found():
    assert {command.split()[1] for command in FAST} == {"estimate", "init", "recipes"}
    assert {command.split()[1] for command in SLOW} == {"train", "eval", "scan", "synth"}


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(SLOW))
def test_commands_with_a_model_work(command, checkout):
    """On a run folder with adapters that were not trained, and a change since the branch main."""
    if "runs/tiny" in command:
        judge = {"verdict": "direct", "cold_start": {"data": "builtin:tiny", "steps": 1}}
        with run_with_policy(checkout / "runs" / "tiny", judge=judge) as folder:
            shutil.copytree(folder.policy_adapter, folder.judge_adapter)
    (checkout / "src").mkdir()
    file = checkout / "src" / "a.py"
    file.write_text("def first():\n    return 1\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "src"], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)
    file.write_text(file.read_text() + "\n\ndef second(a):\n    return eval(a)\n")
    name, *words = shlex.split(command)[1:]
    done = run(name, *words, *SHORTER.get(name, []))
    expected = (0, 1) if name == "scan" else (0,)  # 1: findings
    assert done.returncode in expected, done.stdout + done.stderr
