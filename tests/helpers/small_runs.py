"""Recipes, rewards and run folders for tests that train or export the tiny base."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import get_peft_model

from seccoderx_lite.data import builtin
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import (
    adapter_parameters,
    attach_adapter,
    lora_config,
    save_adapter,
)
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import LoraRecipe, check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.role_proofs import sequence_logprobs

GROUP = 4
BUILTIN = Path(builtin.__file__).parent / "tiny"
ROWS = 16


def small_data(folder: Path) -> dict[str, str]:
    """Write a few rows of each split of the built-in data; return the files by kind."""
    files = {}
    for kind in ("tasks", "labelled"):
        splits: dict[str, list[str]] = {}
        for line in (BUILTIN / f"{kind}.jsonl").read_text().splitlines():
            splits.setdefault(json.loads(line)["split"], []).append(line)
        chosen = [line for lines in splits.values() for line in lines[:: -(-len(lines) // ROWS)]]
        (folder / f"{kind}.jsonl").write_text("\n".join(chosen))
        files[kind] = str(folder / f"{kind}.jsonl")
    return files


def small_recipe(**grpo):
    settings = {
        "group_size": GROUP,
        "prompts_per_step": 2,
        "steps": 1,
        "max_completion_tokens": 24,
        "temperature": 1.0,
        "kl": 0.05,
        "learning_rate": 1e-3,
        **grpo,
    }
    document = {
        "name": "small",
        "model": {"base": "builtin:tiny", "lora": {"rank": 4}},
        "policy": {"tasks": "builtin:tiny", "reward": {"judge": False}, "grpo": settings},
    }
    return check_recipe(document, "small")


class CountingReward:
    """Pays a fixed list of rewards and remembers how long the completions were."""

    __name__ = "counting"

    def __init__(self, rewards):
        self.rewards = rewards
        self.lengths = []

    def __call__(self, completion_ids, **columns):
        self.lengths = [len(ids) for ids in completion_ids]
        return self.rewards[: len(completion_ids)]


class KilledError(Exception):
    """Ends a run in the middle, as a kill does."""


class KilledReward(CountingReward):
    """Ends the run in one of its calls, counted from 1."""

    def __init__(self, rewards, call):
        super().__init__(rewards)
        self.left = call

    def __call__(self, completion_ids, **columns):
        self.left -= 1
        if self.left == 0:
            raise KilledError
        return super().__call__(completion_ids, **columns)


PROMPT, COMPLETION = list(range(10, 30)), list(range(40, 60))


@contextmanager
def run_with_policy(path: Path, **sections) -> Iterator[RunFolder]:
    """Make a run folder with a policy adapter that visibly changes the base."""
    document = {"name": "x", "model": {"base": "builtin:tiny"}, "export": {"formats": ["merged"]}}
    recipe = check_recipe(document | sections, "x")
    with RunFolder.open(path, recipe) as folder:
        base = load_base(recipe.model)
        torch.manual_seed(0)
        base.model = get_peft_model(base.model, lora_config(LoraRecipe(rank=4)))
        for name, parameter in adapter_parameters(base.model, "trained").items():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        save_adapter(base.model, "trained", folder.policy_adapter)
        yield folder


def live_logprobs(folder):
    """Return the log-probabilities of COMPLETION under the trained policy of a run."""
    base = load_base(folder.recipe.model)
    attach_adapter(base, folder.policy_adapter, "trained")
    with acting_as("trained", base.model, base.tokenizer) as model:
        return sequence_logprobs(model, PROMPT, COMPLETION)
