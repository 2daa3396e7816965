"""LoRA adapters: create, load, remove, save, and compute digests."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

from seccoderx_lite.core.errors import ModelError, reason_of
from seccoderx_lite.models.adapter_files import check_adapter, tensor_shapes
from seccoderx_lite.models.backends import new_unsloth_adapter
from seccoderx_lite.models.base import Base, resolve_base
from seccoderx_lite.models.distributed import is_first_process
from seccoderx_lite.models.random_weights import config_of
from seccoderx_lite.recipe.recipe import LoraRecipe

Role = Literal["trained", "reference", "judge", "warm_start"]
"""Which weights the model uses: those of the adapter in training (the policy, or the judge while it
is being trained) or of its finished result, the bare base, a judge that only answers, or the
adapter that the training started from."""

ADAPTER_NAMES: dict[Role, str] = {"trained": "default", "judge": "judge", "warm_start": "ref"}
"""PEFT's name for each role's adapter; TRL and unsloth hard-code `default` for the one they train.
TRL copies an adapter that it trains further to `ref`, against which it computes the KL term. The
reference has no adapter."""


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
    """Return the configuration of a new adapter for TRL, or None if the base has an adapter.

    unsloth's trainers take no configuration, so with unsloth the new adapter is created here.
    """
    if isinstance(base.model, PeftModel):
        return None
    if base.backend == "unsloth":
        base.model = new_unsloth_adapter(base.model, recipe, seed)
        return None
    return lora_config(recipe)


def attach_adapter(base: Base, folder: Path, role: Role, *, trainable: bool = False) -> None:
    """Load a saved adapter onto the base under its role's name.

    Raises:
        ModelError: the folder is not a whole LoRA adapter, or it was trained on another base.
    """
    check_adapter(folder, f"{role} adapter")
    try:
        _attach(base, folder, ADAPTER_NAMES[role], trainable)
    except Exception as error:  # PEFT raises many kinds of error for a damaged or foreign adapter
        detach_adapters(base)
        raise ModelError(
            f"{role} adapter: {folder} does not fit the base {base.name!r} ({_last_line(error)}); "
            "use an adapter trained on this base, or set model.base to the base of the adapter"
        ) from error


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return reason_of(type(error)(lines[-1].strip())) if lines else type(error).__name__


def _attach(base: Base, folder: Path, name: str, trainable: bool) -> None:
    if not isinstance(base.model, PeftModel):
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = not trainable
        if base.backend == "unsloth" and trainable:
            base.model = new_unsloth_adapter(base.model, _lora_recipe(config))
        else:
            base.model = get_peft_model(base.model, config, adapter_name=name)
    loaded = base.model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
    if strays := [*loaded.missing_keys, *loaded.unexpected_keys]:
        raise ValueError(f"{len(strays)} tensors do not match, such as {strays[0]}")


def check_adapter_fits(folder: Path, base_name: str, title: str) -> None:
    """Check from files alone that an adapter has just the tensors that the base needs.

    Raises:
        ModelError: it is damaged, or was trained on another base.
    """
    check_adapter(folder, title)
    try:
        expected, found = _shapes_on(base_name, folder), tensor_shapes(folder)
    except ModelError:
        raise
    except Exception as error:  # PEFT raises many kinds of error for a foreign config
        raise ModelError(
            f"{title}: {folder} does not fit the base {base_name!r} ({reason_of(error)}); use an "
            "adapter trained on this base"
        ) from error
    wrong = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if found and wrong:
        raise ModelError(
            f"{title}: {folder} does not fit the base {base_name!r}: {len(wrong)} tensors differ, "
            f"such as {wrong[0]} ({found.get(wrong[0])} there, {expected.get(wrong[0])} needed); "
            "use an adapter trained on this base, or set model.base to the base of the adapter"
        )


def _shapes_on(base_name: str, folder: Path) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(resolve_base(base_name)))
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        peft: Any = get_peft_model(model, config, low_cpu_mem_usage=True)
    return {name: tuple(t.shape) for name, t in get_peft_model_state_dict(peft).items()}


def _lora_recipe(config: Any) -> LoraRecipe:
    targets = config.target_modules
    return LoraRecipe(
        rank=config.r,
        alpha=config.lora_alpha,
        target_modules="all-linear" if targets == "all-linear" else sorted(targets),
    )


def detach_adapters(base: Base) -> None:
    """Remove every adapter, leaving the bare base model, ready for other adapters."""
    if isinstance(base.model, PeftModel):
        base.model = base.model.unload()
        # PEFT leaves this on the model, and it would be saved with it.
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config
    base.model.requires_grad_(False)


def save_adapter(model: PeftModel, role: Role, folder: Path) -> None:
    """Save one role's adapter alone, in the PEFT layout; only the first process writes."""
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


def save_random_adapter(base: Base, recipe: LoraRecipe, folder: Path) -> None:
    """Save an adapter with random weights, for measurements; leave the base without an adapter."""
    base.model = get_peft_model(base.model, lora_config(recipe))
    for name, parameter in adapter_parameters(base.model, "trained").items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    save_adapter(base.model, "trained", folder)
    detach_adapters(base)


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
