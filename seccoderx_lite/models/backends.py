"""Which library loads a base and puts a new adapter on it: transformers, or unsloth.

unsloth changes transformers, PEFT and TRL while it is imported, so it has to be there before them:
`use_backend` is called before anything else that needs torch. On a GPU it brings attention,
checkpointing and trainers of its own; on a CPU it is its own loader around the stock libraries,
which is what the tests can run.
"""

import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any, Literal

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe

Backend = Literal["transformers", "unsloth"]

_CHANGED_BY_UNSLOTH = ("transformers", "peft", "trl")


def chosen_backend(recipe: ModelRecipe) -> tuple[Backend, str]:
    """Return the backend of a recipe, and why it is this one."""
    if recipe.backend != "auto":
        return recipe.backend, "as model.backend says"
    return "transformers", "auto: no measurement shows unsloth to be faster here"


def use_backend(recipe: ModelRecipe) -> Backend:
    """Import what the backend of a recipe needs before all else, and return which one it is.

    Raises:
        ModelError: unsloth is asked for and is missing, cannot be imported, or comes too late.
    """
    backend, _ = chosen_backend(recipe)
    if backend == "unsloth" and "unsloth" not in sys.modules:
        _import_unsloth()
    return backend


def _import_unsloth() -> None:
    if find_spec("unsloth") is None:
        raise ModelError(
            "model.backend: unsloth is not installed; install it with "
            "`pip install 'seccoderx-lite[unsloth]'`, or set model.backend: transformers"
        )
    if early := [name for name in _CHANGED_BY_UNSLOTH if name in sys.modules]:
        raise ModelError(
            f"model.backend: unsloth must be imported before {', '.join(early)}, which it changes; "
            "put `import unsloth` first in the script or notebook and start it anew"
        )
    try:
        with redirect_stdout(sys.stderr):  # it greets; results are what belongs on stdout
            import unsloth  # noqa: F401
    except ImportError as error:
        raise ModelError(f"model.backend: unsloth cannot be imported: {error}") from error


def load_with_unsloth(
    source: str, *, four_bits: bool, dtype: Any, checkpointing: bool, **options: Any
) -> tuple[Any, Any]:
    """Return the model and tokenizer of a hub id or folder, loaded by unsloth.

    The model is the one that is named, never unsloth's own upload of it in 4 bits, since an
    export is merged into what is named. `options` go to unsloth's `from_pretrained`.
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
            use_gradient_checkpointing=_checkpointing(checkpointing),
            **options,
        )
    return model, tokenizer


def new_unsloth_adapter(model: Any, lora: LoraRecipe, *, seed: int, checkpointing: bool) -> Any:
    """Return the PeftModel with a new adapter `default` on a bare base that unsloth loaded."""
    from unsloth import FastLanguageModel

    return FastLanguageModel.get_peft_model(
        model,
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=lora.target_modules,
        random_state=seed,
        use_gradient_checkpointing=_checkpointing(checkpointing),
    )


def _checkpointing(wanted: bool) -> str | bool:
    return "unsloth" if wanted else False
