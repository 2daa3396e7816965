"""Load a base model once, in 4 bits or unquantised."""

import gc
import json
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from seccoderx_lite.core.errors import ModelError, reason_of
from seccoderx_lite.core.hub import is_hub_reachable, may_be_hub_id
from seccoderx_lite.models.backends import Backend, load_with_unsloth, use_backend
from seccoderx_lite.models.chat_template import with_arguments, with_known_arguments
from seccoderx_lite.models.generation import prompt_ids
from seccoderx_lite.models.random_weights import PREFIX, is_random, load_random
from seccoderx_lite.recipe.recipe import ModelRecipe

CONFIG = "config.json"


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
    decoding: Literal["auto", "plain", "graph"] = "auto"
    """How `decoding` makes a step; auto until the faster way was measured."""

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def release(self) -> None:
        """Free the memory of the model, which cannot be used any more."""
        self.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def resolve_base(name: str) -> str:
    """Return the folder or hub id behind a recipe's `model.base`.

    Raises:
        ModelError: a `builtin:` name does not exist.
    """
    if is_random(name):
        return PREFIX + resolve_base(name.removeprefix(PREFIX))
    if not name.startswith("builtin:"):
        _check_place(name)
        return name
    folder = (
        Path(str(files("seccoderx_lite.data.builtin"))) / name.removeprefix("builtin:") / "model"
    )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model.base: {name!r} does not exist; use builtin:tiny, which the package contains"
        )
    return str(folder)


def _check_place(name: str) -> None:
    """Refuse at once what is neither a folder nor on the hub, whose client would try for long."""
    place = Path(name)
    try:
        is_folder, is_file = place.is_dir(), place.exists()
    except (OSError, ValueError):
        is_folder = is_file = False
    if is_folder or (is_file and place.suffix == ".json"):
        return
    if is_file:
        raise ModelError(f"model.base: {name} is a file; give the folder of a model, or a hub id")
    if not may_be_hub_id(name):
        raise ModelError(f"model.base: {name}: no such folder; check the path")
    if not is_hub_reachable() and not isinstance(try_to_load_from_cache(name, CONFIG), str):
        raise ModelError(
            f"model.base: {name}: no such folder, and it cannot be loaded from the hub, which is "
            "not reachable; check the path, or download the model where there is a network"
        )


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
    source = resolve_base(recipe.base)
    try:
        model, tokenizer = load(source, recipe.quantization == "nf4", options)
        is_sound = has_finite_weights(model)
        _keep_weights_trainable(model)
        _try_out(model, tokenizer)
    except ModelError:
        raise
    except Exception as error:  # libraries raise many kinds of error for a damaged or foreign file
        raise ModelError(
            f"model.base: cannot load {recipe.base!r}: {reason_of(error)}; check that it is a hub "
            "id or the folder of a whole model with its tokenizer"
        ) from error
    if not is_sound:
        raise ModelError(
            f"model.base: the weights of {recipe.base!r} are not all finite numbers; the files are "
            "damaged: replace them"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    template = with_fixed_date(tokenizer.chat_template)
    arguments = recipe.chat_template_kwargs
    tokenizer.chat_template = (
        with_known_arguments(template, arguments)
        if is_other
        else with_arguments(template, arguments, recipe.base)
    )
    name = json.dumps(arguments, sort_keys=True) if arguments else ""
    return Base(
        recipe.base,
        model,
        tokenizer,
        backend,
        recipe.fast_generation,
        arguments=name,
        decoding=recipe.decoding,
    )


def _load_with_transformers(
    source: str, four_bits: bool, options: dict[str, Any]
) -> tuple[Any, Any]:
    if four_bits:
        options = {**options, "quantization_config": nf4_config(options["dtype"])}
    local = not Path(source).is_dir() and not is_hub_reachable()
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", local_files_only=local)
    _require_chat_template(tokenizer, source)  # before gigabytes of weights are downloaded
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source, local_files_only=local, output_loading_info=True, **options
    )
    model, found = loaded
    if missing := sorted(found["missing_keys"]):  # they would have random values
        raise ModelError(
            f"model.base: {len(missing)} tensors are missing from the weights of {source!r}, such "
            f"as {missing[0]}; download the model again"
        )
    return model, tokenizer


def _try_out(model: Any, tokenizer: Any) -> None:
    """Read one prompt, so that a model that cannot is refused before hours of work."""
    ids = prompt_ids(tokenizer, ["x"])[0]
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids], device=device)).logits[0, -1]
    if not torch.isfinite(logits).all():
        raise ValueError("its logits are not finite numbers")


def _scales(state: Any) -> list[torch.Tensor]:
    """Return what the 4-bit codes of a tensor are multiplied with, twice quantised or not."""
    nested = [state.offset, state.state2.absmax] if state.nested else []
    return [state.absmax, *nested]


def has_finite_weights(model: Any) -> bool:
    """Return whether no weight is NaN or infinite; of 4-bit weights the scales are looked at."""
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        values = [parameter] if state is None else _scales(state)
        if not all(math.isfinite(value.detach().sum(dtype=torch.float64)) for value in values):
            return False
    return True


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
    if not tokenizer.chat_template:
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
