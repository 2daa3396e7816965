"""Time rollouts of one step with the model itself and with the vLLM engine, in one process.

    python tests/benchmarks/engine.py MODEL [PROMPTS GROUP TOKENS]

MODEL is a hub id, a folder or `builtin:tiny`, unquantised. Every completion has TOKENS tokens.
"""

import sys
import time

import torch
from peft import get_peft_model

from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import lora_config
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.decoding import generating
from seccoderx_lite.models.engine import close_engine, start_engine
from seccoderx_lite.models.generation import prompt_ids
from seccoderx_lite.models.prefix_cache import padded_left
from seccoderx_lite.recipe.recipe import check_recipe

REPEATS = 3


def main(name: str, prompts: int = 8, group: int = 4, tokens: int = 64) -> None:
    """Print seconds of both, the quickest of three each, and their ratio."""
    grpo = {"rollout_engine": "vllm", "group_size": group, "prompts_per_step": prompts}
    document = {
        "name": "x",
        "model": {"base": name, "quantization": "none", "max_prompt_tokens": 512},
        "policy": {"tasks": "t", "reward": {"judge": False}, "grpo": grpo},
    }
    recipe = check_recipe(document, "x")
    base = load_base(recipe.model)
    base.model = get_peft_model(base.model, lora_config(recipe.model.lora))
    engine = start_engine(recipe, base)
    texts = [f"Write function number {n} that reads a file from a folder." for n in range(prompts)]
    ids = [row for row in prompt_ids(base.tokenizer, texts) for _ in range(group)]
    own = min(_with_model(base, ids, tokens) for _ in range(REPEATS))
    other = min(_with_engine(base, engine, ids, tokens) for _ in range(REPEATS))
    close_engine(base)
    print(f"{len(ids)} x {tokens} tokens: model {own:.2f} s, vLLM {other:.2f} s with the sync of")
    print(f"the adapter, {own / other:.2f} times as fast; {torch.get_num_threads()} thread(s)")


def _with_model(base, ids, tokens):
    began = time.perf_counter()
    with acting_as("trained", base.model, base.tokenizer) as model, generating(base) as options:
        batch, mask = padded_left(model, base.tokenizer, ids)
        model.generate(
            input_ids=batch,
            attention_mask=mask,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=True,
            top_k=0,
            pad_token_id=base.tokenizer.pad_token_id,
            **options,
        )
    return time.perf_counter() - began


def _with_engine(base, engine, ids, tokens):
    began = time.perf_counter()
    engine.sync(base.model)
    settings = [
        {"temperature": 1.0, "max_tokens": tokens, "ignore_eos": True, "logprobs": 0, "seed": n}
        for n in range(len(ids))
    ]
    engine.complete("trained", ids, settings)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
