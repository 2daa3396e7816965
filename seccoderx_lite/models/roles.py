"""One base model in memory, several roles: the base is loaded once, adapters are swapped.

On the model the policy adapter is called `default` (TRL and unsloth hard-code that name) and the
judge adapter `judge`; the reference policy is the base with adapters switched off. `acting_as` is
the only place that switches, and it puts back everything it touched: active adapter,
`requires_grad`, train/eval mode, gradient checkpointing, the kind of attention, the cache switch
and the padding side.
Switch only between an optimiser step and the next forward pass: a switch between forward and
backward loses gradients without an error.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.backends import (
    Backend,
    load_with_unsloth,
    new_unsloth_adapter,
    use_backend,
)
from seccoderx_lite.models.merged_weights import is_merged
from seccoderx_lite.models.processes import is_first_process
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe

transformers_logging.disable_progress_bar()

Role = Literal["policy", "reference", "judge"]

ADAPTER_NAMES: dict[Role, str] = {"policy": "default", "judge": "judge"}
"""What each role's adapter is called on the model; the reference has none."""


@dataclass
class Base:
    """A loaded base model with its tokenizer.

    `model` is the plain transformers model until an adapter is put on it, then the PeftModel.
    """

    name: str
    model: Any
    tokenizer: Any
    backend: Backend = "transformers"
    fast_generation: bool = True
    """Whether it generates as `decoding` and `merged` do, or as transformers does."""

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device


def resolve_base(name: str) -> str:
    """Return the folder or hub id behind a recipe's `model.base`.

    Raises:
        ModelError: `builtin:` names nothing that ships with the package.
    """
    if not name.startswith("builtin:"):
        return name
    folder = (
        Path(str(files("seccoderx_lite.data.builtin"))) / name.removeprefix("builtin:") / "model"
    )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model.base: nothing called {name!r} ships with the package; use builtin:tiny"
        )
    return str(folder)


def compute_dtype() -> torch.dtype:
    """Return bfloat16 on GPUs that have it, float16 on older ones, float32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    # A T4 has bfloat16 in emulation only, which is slow.
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float16


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return how a base is held in 4 bits: NF4 with double quantisation, computing in `dtype`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def load_base(recipe: ModelRecipe) -> Base:
    """Load a base model once, in NF4 or unquantised, on the GPU if there is one.

    Raises:
        ModelError: it cannot be found or loaded, its tokenizer has no chat template, or its
            backend is not there.
    """
    backend = use_backend(recipe)
    load = _load_with_unsloth if backend == "unsloth" else _load_with_transformers
    options: dict[str, Any] = {"dtype": compute_dtype()}
    if not torch.cuda.is_available():
        # On a CPU the backward pass of the fused attention takes twice the time of the plain one.
        options["attn_implementation"] = "eager"
    else:
        options["device_map"] = {"": torch.cuda.current_device()}
    try:
        model, tokenizer = load(resolve_base(recipe.base), recipe.quantization == "nf4", options)
    except (OSError, ValueError) as error:
        raise ModelError(f"model.base: cannot load {recipe.base!r}: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    _keep_weights_trainable(model)
    return Base(recipe.base, model, tokenizer, backend, recipe.fast_generation)


def _load_with_transformers(
    source: str, four_bits: bool, options: dict[str, Any]
) -> tuple[Any, Any]:
    if four_bits:
        options = {**options, "quantization_config": nf4_config(options["dtype"])}
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    _require_chat_template(tokenizer, source)  # before gigabytes of weights are fetched
    return AutoModelForCausalLM.from_pretrained(source, **options), tokenizer


def _load_with_unsloth(source: str, four_bits: bool, options: dict[str, Any]) -> tuple[Any, Any]:
    on_gpu = torch.cuda.is_available()
    model, tokenizer = load_with_unsloth(
        source, four_bits=four_bits, checkpointing=on_gpu, **options
    )
    _require_chat_template(tokenizer, source)
    tokenizer.padding_side = "left"
    return model, tokenizer


def _require_chat_template(tokenizer: Any, source: str) -> None:
    if tokenizer.chat_template is None:
        raise ModelError(
            f"model.base: the tokenizer of {source!r} has no chat template, so prompts cannot be "
            "rendered; use the instruct version of the model, or add a template to its folder"
        )


def _keep_weights_trainable(model: Any) -> None:
    """Stop 4-bit layers from repacking their weights for inference on CPUs with AVX512-BF16.

    The repacked layout has no backward pass and is never undone.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def lora_config(recipe: LoraRecipe) -> LoraConfig:
    """Return the PEFT configuration shared by the policy and the judge."""
    targets = recipe.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=targets if isinstance(targets, str) else list(targets),
    )


def adapter_to_train(base: Base, recipe: LoraRecipe, seed: int) -> LoraConfig | None:
    """Return what TRL shall make a new adapter from, None if there is one on the base.

    unsloth's trainers take no configuration, so there the new adapter is put on here.
    """
    if isinstance(base.model, PeftModel):
        return None
    if base.backend == "unsloth":
        base.model = _unsloth_adapter(base, recipe, seed)
        return None
    return lora_config(recipe)


def _unsloth_adapter(base: Base, recipe: LoraRecipe, seed: int = 0) -> PeftModel:
    on_gpu = torch.cuda.is_available()
    adapted: PeftModel = new_unsloth_adapter(base.model, recipe, seed=seed, checkpointing=on_gpu)
    return adapted


def attach_adapter(base: Base, folder: Path, role: Role, *, trainable: bool = False) -> None:
    """Load a saved adapter onto the base under its role's name.

    Raises:
        ModelError: the folder is no adapter, or it was made for another base.
    """
    name = ADAPTER_NAMES[role]
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{role} adapter: {folder} holds no adapter_config.json; "
            "give the folder of a PEFT adapter"
        )
    try:
        if not isinstance(base.model, PeftModel):
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = not trainable
            if base.backend == "unsloth" and trainable:
                base.model = _unsloth_adapter(base, _lora_recipe(config))
            else:
                base.model = get_peft_model(base.model, config, adapter_name=name)
        loaded = base.model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
        if strays := [*loaded.missing_keys, *loaded.unexpected_keys]:
            raise ValueError(f"{len(strays)} tensors are on one side only, such as {strays[0]}")
    except (RuntimeError, ValueError) as error:
        detach_adapters(base)
        reason = str(error).strip().splitlines()[-1].strip()
        raise ModelError(
            f"{role} adapter: {folder} does not fit the base {base.name!r} ({reason}); "
            "use an adapter trained on this base, or set the base it was trained on"
        ) from error


def _lora_recipe(config: Any) -> LoraRecipe:
    targets = config.target_modules
    return LoraRecipe(
        rank=config.r,
        alpha=config.lora_alpha,
        target_modules="all-linear" if targets == "all-linear" else sorted(targets),
    )


def detach_adapters(base: Base) -> None:
    """Take every adapter off and leave the bare base model, ready for other adapters."""
    if isinstance(base.model, PeftModel):
        base.model = base.model.unload()
        # The injected configuration stays on the model and would be saved with it.
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config
    base.model.requires_grad_(False)


def save_adapter(model: PeftModel, role: Role, folder: Path) -> None:
    """Save one role's adapter, and nothing else, in the PEFT layout; the first process does."""
    if not is_first_process():
        return
    name = ADAPTER_NAMES[role]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder), selected_adapters=[name])
    inner = folder / name  # PEFT puts every adapter but `default` into a folder of its name
    if inner.is_dir():
        for file in inner.iterdir():
            file.replace(folder / file.name)
        inner.rmdir()


def adapter_parameters(model: Any, role: Role) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of one role's adapter by name."""
    marker = f".{ADAPTER_NAMES[role]}."
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if "lora_" in name and marker in name
    }


def adapter_digest(model: Any, role: Role) -> str:
    """Return a digest of every bit of one role's adapter."""
    digest = hashlib.sha256()
    for name, parameter in adapter_parameters(model, role).items():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_GENERATING = "_flag_for_generation"
"""With this attribute unsloth's modules take their path for inference; its `generate` sets it."""


@dataclass(frozen=True)
class _State:
    """Everything about a model that acting as a role may disturb."""

    active: tuple[str, ...]
    layers: tuple[tuple[tuple[str, ...], bool], ...]
    requires_grad: tuple[bool, ...]
    training: tuple[bool, ...]
    checkpointing: tuple[bool, ...]
    attention: str | None
    generating: tuple[bool, ...]
    use_cache: bool | None
    padding_side: str


def _adapter_layers(model: Any) -> list[BaseTunerLayer]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _snapshot(model: Any, tokenizer: Any) -> _State:
    layers = _adapter_layers(model)
    return _State(
        active=tuple(model.active_adapters) if isinstance(model, PeftModel) else (),
        layers=tuple((tuple(layer.active_adapters), layer.disable_adapters) for layer in layers),
        requires_grad=tuple(parameter.requires_grad for parameter in model.parameters()),
        training=tuple(module.training for module in model.modules()),
        checkpointing=tuple(_checkpointing_flags(model)),
        attention=model.config._attn_implementation,
        generating=tuple(_GENERATING in vars(module) for module in model.modules()),
        use_cache=getattr(model.config, "use_cache", None),
        padding_side=tokenizer.padding_side,
    )


def _checkpointing_flags(model: Any) -> Iterator[bool]:
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            yield bool(module.gradient_checkpointing)


def _restore(model: Any, tokenizer: Any, state: _State) -> None:
    if isinstance(model, PeftModel):
        for layer, (active, disabled) in zip(_adapter_layers(model), state.layers, strict=True):
            layer.enable_adapters(not disabled)
            layer.set_adapter(list(active))
        model.active_adapter = state.active[0]
        tuner: Any = model.base_model
        tuner.active_adapter = list(state.active)
    for parameter, flag in zip(model.parameters(), state.requires_grad, strict=True):
        parameter.requires_grad = flag
    for module, mode in zip(model.modules(), state.training, strict=True):
        module.training = mode
    flags = iter(state.checkpointing)
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = next(flags)
    model.config._attn_implementation = state.attention
    for module, generating in zip(model.modules(), state.generating, strict=True):
        if not generating:
            vars(module).pop(_GENERATING, None)
    if state.use_cache is not None:
        model.config.use_cache = state.use_cache
    tokenizer.padding_side = state.padding_side


@contextmanager
def acting_as(role: Role, model: Any, tokenizer: Any) -> Iterator[Any]:
    """Make one role active for inference, and restore everything afterwards.

    Inside, the model is in eval mode with gradients off, fused attention where it has it, caching
    on and padding on the left.

    Raises:
        ModelError: the role's adapter is not on the model, merged copies of another role's weights
            are in use, or something could not be restored.
    """
    if is_merged(model):
        raise ModelError(f"role {role}: roles cannot be swapped while merged copies are in use")
    before = _snapshot(model, tokenizer)
    try:
        _activate(role, model)
        model.eval()
        for module in model.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
        if before.attention == "eager" and model._supports_sdpa:
            model.config._attn_implementation = "sdpa"  # faster, without its backward pass
        model.config.use_cache = True
        tokenizer.padding_side = "left"
        with torch.no_grad():
            yield model
    finally:
        _restore(model, tokenizer, before)
        _check_restored(role, before, _snapshot(model, tokenizer))


def _activate(role: Role, model: Any) -> None:
    if role == "reference":
        for layer in _adapter_layers(model):
            layer.enable_adapters(False)
        return
    name = ADAPTER_NAMES[role]
    present = tuple(model.peft_config) if isinstance(model, PeftModel) else ()
    if name not in present:
        raise ModelError(
            f"role {role}: its adapter {name!r} is not on the model (present: {list(present)}); "
            "train or load it first"
        )
    model.set_adapter(name, inference_mode=True)


def _check_restored(role: Role, before: _State, after: _State) -> None:
    changed = [
        field
        for field in before.__dataclass_fields__
        if getattr(before, field) != getattr(after, field)
    ]
    if changed:
        raise ModelError(
            f"role {role}: {', '.join(changed)} not restored after the switch; training on would "
            "update the wrong weights, so the run stops"
        )
