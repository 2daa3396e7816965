"""One process of a two-process run: GRPO steps on recorded rollouts, by the functions of a stage.

Sampling differs between processes by design, so the completions are recorded ones: what is compared
is everything after them.
"""

import os
from pathlib import Path

import torch
from helpers.small_runs import small_recipe

from seccoderx_lite.models.adapters import save_adapter
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.distributed import is_first_process, process_group
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer

PROMPTS = ["Write one.", "Write two.", "Write a third.", "Write number four."]


def recorded(input_ids, **settings):
    """Completions that depend on the prompt and on the place within its group alone."""
    rows = []
    for place, prompt in enumerate(input_ids.tolist()):
        draw = torch.Generator().manual_seed(sum(prompt) * 10 + place % 4)
        rows.append(torch.randint(10, 1000, (12,), generator=draw))
    return torch.cat([input_ids, torch.stack(rows)], dim=1)


class LastToken:
    """Pays by the recorded tokens, so that every completion has a reward of its own."""

    __name__ = "last_token"

    def __call__(self, completion_ids, **columns):
        return [float(ids[-1] % 7) for ids in completion_ids]


def main(target: Path) -> None:
    recipe = small_recipe(steps=3, prompts_per_step=4, kl=0.05, save_every=100)
    folder = RunFolder(target, recipe, writes=is_first_process())
    base = load_base(recipe.model)
    recorder = StepRecorder("policy", folder, lambda *arguments: None, PhaseClock())
    config = grpo_config(recipe, recipe.policy.grpo, target / "checkpoints")
    rows = [{"prompt": [{"role": "user", "content": prompt}]} for prompt in PROMPTS]
    trainer = make_grpo_trainer(base, recipe, config, rows, LastToken(), recorder)
    base.model.generate = recorded
    train(trainer, target / "checkpoints")
    save_adapter(base.model, "trained", target / "adapter")


def as_one_of_two(rank: int, port: int, target: Path) -> None:
    """Run `main` as a launcher would have it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with process_group():
        main(target)
