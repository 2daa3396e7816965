"""Whole models in 16 bits, as anyone loads them with transformers."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from seccoderx_lite.core.errors import reason_of
from seccoderx_lite.models.base import compute_dtype

logger = logging.getLogger(__name__)


def load_plain(folder: Path, gguf_file: str | None = None) -> Any:
    """Load an export as anyone would, on the GPU as far as it fits."""
    options: dict[str, Any] = {"dtype": compute_dtype(), "gguf_file": gguf_file}
    if torch.cuda.is_available():
        options["device_map"] = "auto"
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def placed(model_bytes: int) -> dict[str, Any]:
    """Return the options that load a model on the GPU if it fits there, else in main memory."""
    if torch.cuda.is_available() and 1.2 * model_bytes < torch.cuda.mem_get_info()[0]:
        return {"device_map": {"": torch.cuda.current_device()}}
    return {}


def valid_generation_config(config: GenerationConfig) -> GenerationConfig:
    """Return a config that can be saved: that of the base, or its token ids if it is invalid.

    Many published models have one that transformers loads but refuses to save.
    """
    try:
        config.validate(strict=True)
        return config
    except ValueError as error:
        logger.warning(
            "the base's generation_config.json is invalid (%s): the export has only its token ids",
            reason_of(error),
        )
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(config, name, None) for name in names})
