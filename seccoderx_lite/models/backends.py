"""The library that loads a base and creates adapters: transformers or unsloth.

Importing unsloth patches transformers, PEFT and TRL, so it must be imported before them: call
`use_backend` before anything else that needs torch. On a GPU, unsloth has its own attention,
checkpointing and trainers; on a CPU it is a loader for the standard libraries, which the tests run.
"""

import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any, Literal

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe

Backend = Literal["transformers", "unsloth"]

_PATCHED_BY_UNSLOTH = ("transformers", "peft", "trl")


def chosen_backend(recipe: ModelRecipe) -> tuple[Backend, str]:
    """Return the backend of a recipe, and the reason for it."""
    if recipe.backend != "auto":
        return recipe.backend, "set by model.backend"
    return "transformers", "auto: no measurement shows unsloth to be faster here"


def use_backend(recipe: ModelRecipe) -> Backend:
    """Import unsloth if a recipe uses it, and return the recipe's backend.

    Raises:
        ModelError: unsloth is not installed, cannot be imported, or is imported too late.
    """
    backend, _ = chosen_backend(recipe)
    if backend == "unsloth" and "unsloth" not in sys.modules:
        _import_unsloth()
    return backend


def _import_unsloth() -> None:
    if find_spec("unsloth") is None:
        raise ModelError(
            "model.backend: unsloth is not installed; install it with "
            f"`{install_command('unsloth')}`, or set model.backend: transformers"
        )
    if early := [name for name in _PATCHED_BY_UNSLOTH if name in sys.modules]:
        raise ModelError(
            f"model.backend: unsloth must be imported before {', '.join(early)}, which it patches; "
            "put `import unsloth` first in the script or notebook and restart it"
        )
    try:
        with redirect_stdout(sys.stderr):  # it prints a banner; stdout is for results
            import unsloth  # noqa: F401
    except ImportError as error:
        raise ModelError(f"model.backend: unsloth cannot be imported: {error}") from error


def load_with_unsloth(
    source: str, *, four_bits: bool, dtype: Any, **options: Any
) -> tuple[Any, Any]:
    """Return the model and tokenizer of a hub id or folder, loaded by unsloth.

    Loads exactly that model, never unsloth's own 4-bit upload of it, because an export is merged
    into that model. `options` go to unsloth's `from_pretrained`.
    """
    from transformers import AutoConfig
    from unsloth import FastLanguageModel

    longest = AutoConfig.from_pretrained(source).max_position_embeddings
    with redirect_stdout(sys.stderr):
        model, tokenizer = FastLanguageModel.from_pretrained(
            source,
            max_seq_length=longest,
            dtype=dtype,
            load_in_4bit=four_bits,
            use_exact_model_name=True,
            use_gradient_checkpointing=_checkpointing(),
            **options,
        )
    return model, tokenizer


def new_unsloth_adapter(model: Any, lora: LoraRecipe, seed: int = 0) -> Any:
    """Return a PeftModel: a bare base loaded by unsloth, with a new adapter `default`."""
    from unsloth import FastLanguageModel

    return FastLanguageModel.get_peft_model(
        model,
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=lora.target_modules,
        random_state=seed,
        use_gradient_checkpointing=_checkpointing(),
    )


def _checkpointing() -> str | bool:
    import torch

    return "unsloth" if torch.cuda.is_available() else False
