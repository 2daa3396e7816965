"""One base model in memory, several roles: the base is loaded once, adapters are swapped.

On the model the policy adapter is called `default` (TRL and unsloth hard-code that name) and the
judge adapter `judge`; the reference policy is the base with adapters switched off. `acting_as` is
the only place that switches, and it puts back everything it touched: active adapter,
`requires_grad`, train/eval mode, gradient checkpointing, the cache switch and the padding side.
Switch only between an optimiser step and the next forward pass: a switch between forward and
backward loses gradients without an error.
"""

import hashlib
from collections.abc import Iterator, Sequence
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

from seccoderx_lite.errors import ModelError
from seccoderx_lite.processes import is_first_process
from seccoderx_lite.recipe import LoraRecipe, ModelRecipe

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
    folder = Path(str(files("seccoderx_lite.builtin"))) / name.removeprefix("builtin:") / "model"
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
        ModelError: it cannot be found or loaded, or its tokenizer has no chat template.
    """
    source = resolve_base(recipe.base)
    options: dict[str, Any] = {"dtype": compute_dtype()}
    if not torch.cuda.is_available():
        # On a CPU the backward pass of the fused attention takes twice the time of the plain one.
        options["attn_implementation"] = "eager"
    else:
        options["device_map"] = {"": torch.cuda.current_device()}
    if recipe.quantization == "nf4":
        options["quantization_config"] = nf4_config(compute_dtype())
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
        if tokenizer.chat_template is None:  # told before gigabytes of weights are fetched
            raise ModelError(
                f"model.base: the tokenizer of {recipe.base!r} has no chat template, so prompts "
                "cannot be rendered; use the instruct version of the model, or add a template to "
                "its folder"
            )
        model = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise ModelError(f"model.base: cannot load {recipe.base!r}: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    _keep_weights_trainable(model)
    return Base(recipe.base, model, tokenizer)


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


@dataclass(frozen=True)
class _State:
    """Everything about a model that acting as a role may disturb."""

    active: tuple[str, ...]
    layers: tuple[tuple[tuple[str, ...], bool], ...]
    requires_grad: tuple[bool, ...]
    training: tuple[bool, ...]
    checkpointing: tuple[bool, ...]
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
    if state.use_cache is not None:
        model.config.use_cache = state.use_cache
    tokenizer.padding_side = state.padding_side


@contextmanager
def acting_as(role: Role, model: Any, tokenizer: Any) -> Iterator[Any]:
    """Make one role active for inference, and restore everything afterwards.

    Inside, the model is in eval mode with gradients off, caching on and padding on the left.

    Raises:
        ModelError: the role's adapter is not on the model, or something could not be restored.
    """
    before = _snapshot(model, tokenizer)
    try:
        _activate(role, model)
        model.eval()
        for module in model.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
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


def require_policy_optimizer(optimizer: torch.optim.Optimizer, model: Any) -> None:
    """Check that an optimiser holds exactly the policy adapter's parameters.

    Raises:
        ModelError: it lacks some of them or holds others; such a run would train the wrong weights.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    held = {id(parameter) for group in inner.param_groups for parameter in group["params"]}
    policy = {id(parameter) for parameter in adapter_parameters(model, "policy").values()}
    if not policy or held != policy:
        raise ModelError(
            f"optimizer: it must hold exactly the policy adapter's {len(policy)} tensors, but "
            f"holds {len(held & policy)} of them and {len(held - policy)} others"
        )


def sequence_logprobs(
    model: Any, prompt_ids: Sequence[int], completion_ids: Sequence[int], temperature: float = 1.0
) -> torch.Tensor:
    """Return the log-probability of each completion token under the active adapter; shape (T,)."""
    ids = torch.tensor([[*prompt_ids, *completion_ids]], device=next(model.parameters()).device)
    logits = (
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float() / temperature
    )
    logprobs = torch.log_softmax(logits[len(prompt_ids) - 1 : -1], dim=-1)
    targets = ids[0, len(prompt_ids) :]
    return logprobs.gather(1, targets[:, None])[:, 0]


def prove_rollouts_use_policy(model: PeftModel, tokenizer: Any, prompt_ids: Sequence[int]) -> None:
    """Check that what generates is the policy adapter, by giving it a visible nudge first.

    A new adapter changes nothing yet, so its B matrices get noise for the length of the check and
    their exact values back. The generator's log-probabilities of its own greedy tokens must then
    agree with those of a plain forward pass under the policy, and differ from the reference's.

    Raises:
        ModelError: they do not; rollouts would come from other weights than are trained.
    """
    nudged = [p for name, p in adapter_parameters(model, "policy").items() if "lora_B" in name]
    saved = [parameter.detach().clone() for parameter in nudged]
    noise = torch.Generator().manual_seed(0)
    try:
        for parameter in nudged:
            shake = 0.05 * torch.randn(parameter.shape, generator=noise)
            parameter.data += shake.to(parameter.device, parameter.dtype)
        with acting_as("policy", model, tokenizer):
            generated, said = _greedy_logprobs(model, tokenizer, prompt_ids)
            policy = sequence_logprobs(model, prompt_ids, generated)
        with acting_as("reference", model, tokenizer):
            reference = sequence_logprobs(model, prompt_ids, generated)
    finally:
        for parameter, values in zip(nudged, saved, strict=True):
            parameter.data.copy_(values)
    gap = (said - policy).abs().mean().item()
    distance = (said - reference).abs().mean().item()
    if gap > 0.05 or gap > 0.5 * distance:
        raise ModelError(
            f"rollouts do not come from the policy adapter: their log-probabilities are {gap:.3g} "
            f"from the policy's and {distance:.3g} from the reference's; training would optimise "
            "another model than it samples"
        )


def _greedy_logprobs(
    model: Any, tokenizer: Any, prompt_ids: Sequence[int], tokens: int = 8
) -> tuple[list[int], torch.Tensor]:
    """Return greedy token ids, and the generator's log-probabilities of them; shape (T,)."""
    ids = torch.tensor([list(prompt_ids)], device=next(model.parameters()).device)
    output = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
        temperature=None, top_k=None, top_p=None, output_logits=True, return_dict_in_generate=True,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    generated = output.sequences[0, ids.shape[1] :].tolist()
    logits = torch.stack(output.logits)[:, 0].float()
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = torch.tensor(generated, device=logits.device)
    return generated, logprobs.gather(1, chosen[:, None])[:, 0]
