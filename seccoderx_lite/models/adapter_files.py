"""Is a folder a whole LoRA adapter? Found out from its files, before a model is loaded."""

import json
import math
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import ModelError, reason_of

CONFIG_FILE = "adapter_config.json"
"""File in every folder of an adapter."""
WEIGHTS_FILE = "adapter_model.safetensors"
_GIVE = "give the folder of a LoRA adapter of PEFT"


def read_adapter_config(folder: Path, title: str) -> dict[str, Any]:
    """Return the config of an adapter.

    Raises:
        ModelError: it is missing, damaged, or not that of a LoRA adapter.
    """
    file = folder / CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{title}: {folder} has no {CONFIG_FILE}; {_GIVE}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{title}: {file} is damaged: {reason_of(error)}; {_GIVE}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{title}: {file} must contain an object (got {config!r:.40}); {_GIVE}")
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise ModelError(f"{title}: {file}: peft_type must be LORA (got {kind!r:.40}); {_GIVE}")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 < rank < 1 << 16:
        raise ModelError(f"{title}: {file}: r must be a rank of at least 1 (got {rank!r:.40})")
    scale = config.get("lora_alpha", 8)
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise ModelError(f"{title}: {file}: lora_alpha must be a number (got {scale!r:.40})")
    return config


def check_adapter(folder: Path, title: str) -> None:
    """Check that a folder has a whole LoRA adapter with sound weights.

    Raises:
        ModelError: a file is missing or damaged, it is of another kind, or a weight is not a finite
            number.
    """
    read_adapter_config(folder, title)
    if not (folder / WEIGHTS_FILE).exists() and (folder / "adapter_model.bin").is_file():
        return  # the format of older versions of PEFT
    _check_weights(folder / WEIGHTS_FILE, title)


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of an adapter; none of the format of older versions."""
    from safetensors import safe_open

    if not (folder / WEIGHTS_FILE).exists():
        return {}
    with safe_open(str(folder / WEIGHTS_FILE), framework="pt") as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def _check_weights(file: Path, title: str) -> None:
    from safetensors import safe_open

    if not file.is_file():
        raise ModelError(f"{title}: {file} is missing; copy the adapter again, or train it again")
    wrong = None
    try:
        with safe_open(str(file), framework="pt") as tensors:
            names = list(tensors.keys())
            for name in names:
                tensor = tensors.get_tensor(name)
                if not tensor.is_floating_point():
                    wrong = f"{name} has whole numbers"
                elif not math.isfinite(tensor.double().sum()):
                    wrong = f"{name} is not finite (NaN or infinity)"
    except Exception as error:  # safetensors raises its own errors, and OSError
        raise ModelError(
            f"{title}: {file} is damaged: {reason_of(error)}; copy or train the adapter again"
        ) from error
    if not names:
        wrong = "it has no tensors"
    if wrong:
        raise ModelError(f"{title}: {file} is damaged: {wrong}; copy or train the adapter again")
