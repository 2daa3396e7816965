"""Load a base model once, in 4 bits or unquantised."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.backends import Backend, load_with_unsloth, use_backend
from seccoderx_lite.models.chat_template import with_arguments, with_known_arguments
from seccoderx_lite.models.random_weights import PREFIX, is_random, load_random
from seccoderx_lite.recipe.recipe import ModelRecipe


@dataclass
class Base:
    """A loaded base model with its tokenizer.

    `model` is the plain transformers model, or the PeftModel once an adapter is on it.
    """

    name: str
    model: Any
    tokenizer: Any
    backend: Backend = "transformers"
    fast_generation: bool = True
    """Whether it generates with `decoding` and `float_copies`, or as transformers does."""
    engine: Any = None
    """The vLLM engine that holds a second copy of the base, if one was started; see `engine`."""
    arguments: str = ""
    """The arguments of its chat template, which change what it answers."""

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device


def resolve_base(name: str) -> str:
    """Return the folder or hub id behind a recipe's `model.base`.

    Raises:
        ModelError: a `builtin:` name does not exist.
    """
    if is_random(name):
        return PREFIX + resolve_base(name.removeprefix(PREFIX))
    if not name.startswith("builtin:"):
        return name
    folder = (
        Path(str(files("seccoderx_lite.data.builtin"))) / name.removeprefix("builtin:") / "model"
    )
    if not (folder / "config.json").is_file():
        raise ModelError(f"model.base: {name!r} does not exist; the package contains builtin:tiny")
    return str(folder)


def compute_dtype() -> torch.dtype:
    """Return bfloat16 on GPUs that support it, float16 on older ones, float32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    # A T4 only emulates bfloat16, which is slow.
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float16


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return the 4-bit quantisation: NF4 with double quantisation, computing in `dtype`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def load_base(recipe: ModelRecipe, *, is_other: bool = False) -> Base:
    """Load a base model, in NF4 or unquantised, on the GPU if there is one.

    `is_other` says that it is not the recipe's own base: its chat template need not use the
    arguments of `chat_template_kwargs`.

    Raises:
        ModelError: it cannot be found or loaded, its tokenizer has no chat template, or its backend
            is not installed.
    """
    backend = use_backend(recipe)
    load = _load_with_unsloth if backend == "unsloth" else _load_with_transformers
    if is_random(recipe.base):
        load = _load_random
    options: dict[str, Any] = {"dtype": compute_dtype()}
    if not torch.cuda.is_available():
        # On a CPU the backward pass of fused attention takes twice as long as that of eager.
        options["attn_implementation"] = "eager"
    else:
        options["device_map"] = {"": torch.cuda.current_device()}
    try:
        model, tokenizer = load(resolve_base(recipe.base), recipe.quantization == "nf4", options)
    except (OSError, ValueError) as error:
        raise ModelError(f"model.base: cannot load {recipe.base!r}: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    template = with_fixed_date(tokenizer.chat_template)
    arguments = recipe.chat_template_kwargs
    tokenizer.chat_template = (
        with_known_arguments(template, arguments)
        if is_other
        else with_arguments(template, arguments, recipe.base)
    )
    _keep_weights_trainable(model)
    name = json.dumps(arguments, sort_keys=True) if arguments else ""
    return Base(recipe.base, model, tokenizer, backend, recipe.fast_generation, arguments=name)


def _load_with_transformers(
    source: str, four_bits: bool, options: dict[str, Any]
) -> tuple[Any, Any]:
    if four_bits:
        options = {**options, "quantization_config": nf4_config(options["dtype"])}
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    _require_chat_template(tokenizer, source)  # before gigabytes of weights are downloaded
    return AutoModelForCausalLM.from_pretrained(source, **options), tokenizer


def _load_random(source: str, four_bits: bool, options: dict[str, Any]) -> tuple[Any, Any]:
    if four_bits:
        options = {**options, "quantization_config": nf4_config(options["dtype"])}
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("builtin:tiny"), padding_side="left")
    return load_random(source, tokenizer, **options), tokenizer


def _load_with_unsloth(source: str, four_bits: bool, options: dict[str, Any]) -> tuple[Any, Any]:
    model, tokenizer = load_with_unsloth(source, four_bits=four_bits, **options)
    _require_chat_template(tokenizer, source)
    tokenizer.padding_side = "left"
    return model, tokenizer


def _require_chat_template(tokenizer: Any, source: str) -> None:
    if tokenizer.chat_template is None:
        raise ModelError(
            f"model.base: the tokenizer of {source!r} has no chat template, which prompts need; "
            "use the instruct version of the model, or add a template to its folder"
        )


_DATE = "26 Jul 2024"
"""The date that Llama 3.1 shows where none is given."""


def with_fixed_date(template: Any) -> Any:
    """Return a chat template that shows one date, where it would show that of the day.

    A model that is trained today and asked tomorrow must see the same text.
    """
    if isinstance(template, dict):  # several templates by name
        return {name: with_fixed_date(text) for name, text in template.items()}
    if "strftime_now" not in template:
        return template
    return "{%- macro strftime_now(format) -%}" + _DATE + "{%- endmacro -%}" + template


def _keep_weights_trainable(model: Any) -> None:
    """Stop 4-bit layers from repacking their weights for inference on CPUs with AVX512-BF16.

    The repacked layout has no backward pass, and repacking cannot be undone.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
