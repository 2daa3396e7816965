"""A base with random weights in the shape of a real model: for measurements, without a download.

`random:SHAPE` names one, where SHAPE is the hub id of a model, its folder, or a config.json. It has
the tokenizer and chat template of the tiny base, whose ids are the first of the vocabulary. Time
and memory are those of the real model; what it writes means nothing.
"""

from types import EllipsisType
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from seccoderx_lite.core.errors import ModelError, reason_of

PREFIX = "random:"


def is_random(base: str) -> bool:
    """Whether a recipe's `model.base` names random weights."""
    return base.startswith(PREFIX)


def config_of(base: str) -> Any:
    """Return the config behind a base's name; for a hub id only that is downloaded.

    Raises:
        ModelError: there is no such config.
    """
    try:
        return AutoConfig.from_pretrained(base.removeprefix(PREFIX)).get_text_config()
    except Exception as error:  # whatever the library makes of a damaged or foreign config
        raise ModelError(
            f"{base}: cannot load its config: {reason_of(error)}; give a hub id, a folder "
            "or a config.json"
        ) from error


def load_random(base: str, tokenizer: Any, **options: Any) -> Any:
    """Return a model with random weights, loaded the way transformers loads saved ones.

    Each tensor is drawn when the loader asks for it, so a 4-bit model is quantised layer by layer
    and never exists in 16 bits. `options` are those of `from_pretrained`.

    Raises:
        ModelError: the tokenizer has more entries than the config's vocabulary.
    """
    config = config_of(base)
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"{base}: its vocabulary of {config.vocab_size} is smaller than the {len(tokenizer)} "
            "entries of the tiny base's tokenizer; use a larger model"
        )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spread = getattr(config, "initializer_range", 0.02)
    weights = {
        name: _RandomWeight(name, parameter.shape, options["dtype"], device, spread)
        for name, parameter in model.named_parameters()
    }
    loaded = type(model).from_pretrained(None, config=config, state_dict=weights, **options)
    loaded.generation_config.eos_token_id = tokenizer.eos_token_id
    loaded.name_or_path = loaded.config._name_or_path = base.removeprefix(PREFIX)
    return loaded


class _RandomWeight:
    """A tensor that is drawn when it is read, as a slice of a safetensors file is loaded."""

    def __init__(
        self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device, spread: float
    ) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self._device, self._spread = device, spread

    def __getitem__(self, where: EllipsisType) -> torch.Tensor:
        values = torch.empty(self.shape, dtype=self.dtype, device=self._device)
        if self.name.endswith("bias"):
            return values.zero_()
        return values.fill_(1.0) if values.dim() == 1 else values.normal_(0.0, self._spread)

    def get_shape(self) -> list[int]:
        return list(self.shape)

    def get_dtype(self) -> str:
        return {torch.bfloat16: "BF16", torch.float16: "F16"}.get(self.dtype, "F32")
