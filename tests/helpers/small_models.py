"""Random models in the layout of a hub folder, with the tokenizer of the tiny base."""

import json
import shutil
from pathlib import Path

from transformers import AutoModelForCausalLM, Qwen2Config

from seccoderx_lite.models.base import resolve_base


def tiny_config(**changes) -> Qwen2Config:
    """The tiny base's config with some sizes changed."""
    settings = json.loads((Path(resolve_base("builtin:tiny")) / "config.json").read_text())
    del settings["layer_types"]
    return Qwen2Config(**{**settings, **changes})


def small_model(folder: Path, **changes) -> Path:
    """A random model on disk."""
    shutil.copytree(resolve_base("builtin:tiny"), folder)
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_config(tiny_config(**changes)).save_pretrained(folder)
    return folder
