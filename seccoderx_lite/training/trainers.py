"""What both training stages share: TRL's trainers set up for one shared base, and their records.

Only callables and callbacks are handed to TRL; none of its methods is overridden. A trainer's
checkpoints hold the trained adapter alone. After every optimiser step one object goes to
`metrics.jsonl`; on resume, records past the checkpoint are dropped first, so the file reads as if
the run had never been interrupted.
"""

import functools
import json
import logging
import math
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.records import Json
from seccoderx_lite.models.decoding import generating
from seccoderx_lite.models.estimate import micro_batch
from seccoderx_lite.models.processes import (
    from_all,
    is_first_process,
    process_count,
    together,
    wait_for_all,
)
from seccoderx_lite.models.roles import (
    Base,
    adapter_parameters,
    adapter_to_train,
    compute_dtype,
)
from seccoderx_lite.recipe.recipe import AlignRecipe, ColdStartRecipe, GrpoRecipe, Recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress as Progress
from seccoderx_lite.run.progress import no_progress as no_progress
from seccoderx_lite.training.order import in_training_order
from seccoderx_lite.training.out_of_memory import train_within_memory
from seccoderx_lite.training.role_proofs import require_policy_optimizer
from seccoderx_lite.training.trackers import finish_stage, tracker_arguments

logger = logging.getLogger(__name__)

datasets.disable_progress_bars()  # `Progress` is told instead


class PhaseClock:
    """Seconds each phase of the current optimiser step took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._mark = time.perf_counter()

    def start(self) -> None:
        """Begin a step."""
        self._seconds = {}
        self._mark = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Count the time since the last mark towards a phase."""
        now = time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._mark
        self._mark = now

    def has(self, phase: str) -> bool:
        """Say whether this step already has such a phase."""
        return phase in self._seconds

    def read(self) -> dict[str, float]:
        """Return seconds by phase, and their total as `step`."""
        return {**self._seconds, "step": sum(self._seconds.values())}


def peak_memory_bytes() -> int:
    """Return the peak of GPU memory, or without a GPU of this process's resident memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class StepRecorder(TrainerCallback):
    """Writes one metrics record a step, and checks what may not go wrong silently."""

    def __init__(
        self,
        stage: str,
        folder: RunFolder,
        progress: Progress,
        clock: PhaseClock,
        step_values: Callable[[int], Mapping[str, Json]] = lambda step: {},
    ) -> None:
        self._stage = stage
        self._folder = folder
        self._progress = progress
        self._clock = clock
        self._step_values = step_values

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check that the optimiser will train the trained adapter and nothing else."""
        require_policy_optimizer(kwargs["optimizer"], kwargs["model"])
        _drop_records_after(self._folder, self._stage, state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._clock.start()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check that gradients reached the trained adapter and nothing else."""
        if state.global_step == 0:
            _check_gradients(kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self._clock.lap("update")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the step's record and show it."""
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:  # the summary at the end of training
            return
        record: dict[str, Json] = {"stage": self._stage, "step": state.global_step}
        record |= {_KEPT_LOGS[key]: value for key, value in logs.items() if key in _KEPT_LOGS}
        record |= together(from_all(self._step_values(state.global_step)))
        record["seconds"] = {name: round(s, 4) for name, s in self._clock.read().items()}
        if tokens := record.pop("completion_tokens", None):
            record["tokens_per_s"] = round(tokens / max(record["seconds"]["step"], 1e-9), 1)
        record["peak_memory_bytes"] = peak_memory_bytes()
        self._folder.append_jsonl("metrics.jsonl", record)
        self._progress(self._stage, state.global_step, state.max_steps, record)


_KEPT_LOGS = {
    "loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate",
    "reward": "reward", "reward_std": "reward_std", "kl": "kl", "entropy": "entropy",
    "frac_reward_zero_std": "zero_variance_share",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_share",
    "mean_token_accuracy": "token_accuracy",
    "sampling/sampling_logp_difference/mean": "sampling_logprob_gap",
}  # fmt: skip


def _drop_records_after(folder: RunFolder, stage: str, step: int) -> None:
    for name in ("metrics.jsonl", "completions.jsonl"):
        folder.truncate_jsonl(
            name, lambda row: row.get("stage") != stage or row.get("step", 0) <= step
        )


def _check_gradients(model: Any) -> None:
    trained = {id(parameter) for parameter in adapter_parameters(model, "policy").values()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and id(parameter) not in trained:
            raise ModelError(f"gradient: {name} is not part of the trained adapter but has one")
        if id(parameter) in trained and parameter.grad is None:
            raise ModelError(f"gradient: {name} belongs to the trained adapter but has none")


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, and delete half-written ones.

    A trainer writes its state file last, so a checkpoint without a readable one is not complete.
    """
    complete: list[tuple[int, Path]] = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            step = int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])
        except (OSError, ValueError, KeyError):
            shutil.rmtree(checkpoint)
            continue
        complete.append((step, checkpoint))
    return max(complete)[1] if complete else None


def _common_arguments(
    recipe: Recipe, section: ColdStartRecipe | AlignRecipe | GrpoRecipe, checkpoints: Path
) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    bf16 = on_gpu and compute_dtype() is torch.bfloat16
    return {
        "output_dir": str(checkpoints),
        "max_steps": section.steps,
        "learning_rate": section.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "logging_steps": 1,
        "save_steps": section.save_every,
        "save_total_limit": 2,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": bf16,
        "fp16": on_gpu and not bf16,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": on_gpu,
        **tracker_arguments(recipe.report_to, recipe.name, checkpoints.parent.name),
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def _micro_batch(
    whole: int, section: ColdStartRecipe | AlignRecipe | GrpoRecipe, name: str
) -> tuple[int, int]:
    """Sequences at once, and how often a step, in each process; at most as `trainer` says.

    With several processes each takes an equal share of the step.
    """
    share, rest = divmod(whole, process_count())
    if rest:
        raise ModelError(
            f"{name} = {whole} must be divisible by the number of processes ({process_count()})"
        )
    micro = micro_batch(share, section.trainer)
    if micro < 1 or share % micro:
        told = name if process_count() == 1 else f"{name} / {process_count()} processes"
        raise ModelError(
            f"trainer.per_device_train_batch_size: must divide {told} = {share} (got {micro})"
        )
    return micro, share // micro


def sft_config(recipe: Recipe, section: ColdStartRecipe, checkpoints: Path) -> SFTConfig:
    """Return the settings of supervised training with the loss on the answer only.

    Cosine schedule after a warm-up of 10%, as in SecCoderX's cold start. A smaller
    `trainer.per_device_train_batch_size` is made up for by gradient accumulation.

    Raises:
        ModelError: the examples of a step cannot be divided into micro-batches of that size.
    """
    micro, accumulated = _micro_batch(section.batch_size, section, "batch_size")
    return SFTConfig(
        **{
            **_common_arguments(recipe, section, checkpoints),
            "train_sampling_strategy": "sequential",
            "lr_scheduler_type": "cosine",
            "warmup_steps": section.steps // 10,
            "gradient_accumulation_steps": accumulated,
            "max_length": section.max_tokens,
            "completion_only_loss": True,
            "packing": False,
            **section.trainer,
            "per_device_train_batch_size": micro,
        }
    )


def grpo_config(recipe: Recipe, section: GrpoRecipe | AlignRecipe, checkpoints: Path) -> GRPOConfig:
    """Return the settings of GRPO: which one exactly is said in `stages.policy_training`.

    A smaller `trainer.per_device_train_batch_size` is made up for by gradient accumulation, so a
    step always sees `prompts_per_step` whole groups.

    Raises:
        ModelError: the rollouts of a step cannot be divided into micro-batches of that size.
    """
    rollouts = section.group_size * section.prompts_per_step
    if section.prompts_per_step % process_count():
        raise ModelError(
            f"prompts_per_step: must be a multiple of the number of processes, "
            f"{process_count()}, so that each scores whole groups (got {section.prompts_per_step})"
        )
    micro, accumulated = _micro_batch(rollouts, section, "group_size x prompts_per_step")
    return GRPOConfig(
        **{
            **_common_arguments(recipe, section, checkpoints),
            "gradient_accumulation_steps": accumulated,
            "num_generations": section.group_size,
            "max_completion_length": section.max_completion_tokens,
            "temperature": section.temperature,
            "beta": section.kl,
            **rollout_engine(section),
            "epsilon": 0.2,
            "epsilon_high": 0.3,
            "shuffle_dataset": False,
            "loss_type": "dapo",
            "scale_rewards": "group",
            **section.trainer,
            "per_device_train_batch_size": micro,
        }
    )


def rollout_engine(section: GrpoRecipe | AlignRecipe) -> dict[str, Any]:
    """Return TRL's settings for what samples the rollouts.

    Raises:
        ModelError: vLLM is asked for and is not installed, or there is no GPU for it.
    """
    if not isinstance(section, GrpoRecipe) or section.rollout_engine == "generate":
        return {}
    if find_spec("vllm") is None or not torch.cuda.is_available():
        raise ModelError(
            "policy.grpo.rollout_engine: vllm needs the package vllm and a GPU, and this machine "
            f"has {'no GPU' if find_spec('vllm') else 'no package vllm'}; install it with "
            "`pip install vllm`, or set rollout_engine: generate"
        )
    return {"use_vllm": True, "vllm_mode": "colocate"}


def train(trainer: Any, checkpoints: Path) -> None:
    """Run a trainer from its newest complete checkpoint, or from the start.

    Raises:
        ModelError: memory ran out, and smaller micro-batches could not help.
    """
    # Adapters stay in float32: TRL casts those of a 4-bit base to bfloat16, which swallows small
    # steps.
    for parameter in adapter_parameters(trainer.model, "policy").values():
        parameter.data = parameter.data.float()
    trainer.model.save_pretrained = functools.partial(
        trainer.model.save_pretrained, selected_adapters=["default"]
    )
    trainer.remove_callback(PrinterCallback)
    if is_first_process():
        latest_checkpoint(checkpoints)  # half-written ones are gone before the others look
    wait_for_all()
    checkpoint = latest_checkpoint(checkpoints)
    if checkpoint:
        logger.info("resuming from %s", checkpoint.name)
    train_within_memory(trainer, checkpoint)
    finish_stage(trainer.args.report_to)


def sequences_a_step(config: SFTConfig | GRPOConfig) -> int:
    """Over all processes."""
    return int(config.train_batch_size) * config.gradient_accumulation_steps * process_count()


def make_sft_trainer(
    base: Base,
    recipe: Recipe,
    config: SFTConfig,
    rows: list[dict[str, Json]],
    recorder: StepRecorder,
) -> Any:
    """Return TRL's supervised trainer for a new adapter on the bare base; rows are met in order."""
    set_seed(recipe.seed)
    config_of_new = adapter_to_train(base, recipe.model.lora, recipe.seed)
    trainer = SFTTrainer(
        model=base.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=base.tokenizer,
        peft_config=config_of_new,
        callbacks=[recorder],
    )
    base.model = trainer.model
    return trainer


def make_grpo_trainer(
    base: Base,
    recipe: Recipe,
    config: GRPOConfig,
    rows: list[dict[str, Json]],
    reward: Callable[..., list[float | None]],
    recorder: StepRecorder,
) -> Any:
    """Return TRL's GRPO trainer: for the adapter on the base, or a new one on a bare base."""
    set_seed(recipe.seed)
    count = int(config.max_steps) * sequences_a_step(config) // (config.num_generations or 1)
    rows = in_training_order(rows, count, recipe.seed)
    config_of_new = adapter_to_train(base, recipe.model.lora, recipe.seed)
    trainer = GRPOTrainer(
        model=base.model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=base.tokenizer,
        peft_config=config_of_new,
        callbacks=[recorder],
    )
    base.model = trainer.model
    return trainer


def prepare_generation(base: Base, clock: PhaseClock) -> None:
    """Make the trainer's `generate` work as the recipe says, and count its time as `rollout`.

    Later calls in a step are the judge's; they stay part of its phase.
    """
    generate = base.model.generate

    @functools.wraps(generate)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with generating(base) as how:
            result = generate(*args, **{**how, **kwargs})
        if not clock.has("rollout"):
            clock.lap("rollout")
        return result

    base.model.generate = timed


def mean(values: list[float]) -> float | None:
    """Return the mean, or None of nothing."""
    finite = [value for value in values if not math.isnan(value)]
    return sum(finite) / len(finite) if finite else None
