"""Write an adapter or a merged model as anyone loads it, with tokenizer and chat template."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from seccoderx_lite.models.base import Base, compute_dtype, nf4_config, resolve_base
from seccoderx_lite.models.plain_models import placed, valid_generation_config
from seccoderx_lite.models.shapes import parameter_count


def export_adapter(base: Base, source: Path, target: Path) -> None:
    """Copy an adapter and name its base, with the tokenizer and chat template that it needs."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    config_file = target / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config["base_model_name_or_path"] = resolve_base(base.name)
    config_file.write_text(json.dumps(config, indent=2))
    base.tokenizer.save_pretrained(target)


def export_merged(
    base: Base,
    source: Path,
    target: Path,
    into_round_trip: bool,
    before_merge: Callable[[Any], None] = lambda model: None,
) -> None:
    """Write the merged model in 16 bits, in shards, with tokenizer and generation config.

    `before_merge` is called with the adapter on the base that it is then merged into.
    """
    half = torch.float16 if compute_dtype() is torch.float16 else torch.bfloat16
    place = resolve_base(base.name)
    options = placed(2 * parameter_count(base.name))
    if into_round_trip:
        quantized = AutoModelForCausalLM.from_pretrained(
            place, dtype=compute_dtype(), quantization_config=nf4_config(compute_dtype()), **options
        )
        model: Any = quantized.dequantize(dtype=compute_dtype())
    else:
        model = AutoModelForCausalLM.from_pretrained(place, dtype=half, **options)
        model.to(dtype=compute_dtype())  # adds in float32 on a CPU without 16-bit arithmetic
    peft = PeftModel.from_pretrained(model, str(source), autocast_adapter_dtype=True).eval()
    before_merge(peft)
    merged = peft.merge_and_unload().to(half)
    merged.generation_config = valid_generation_config(merged.generation_config)
    merged.save_pretrained(target, max_shard_size="4GB")
    base.tokenizer.save_pretrained(target)
