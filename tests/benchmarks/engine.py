"""Time rollouts of one step with the model itself and with the vLLM engine, in one process.

    python tests/benchmarks/engine.py MODEL [PROMPTS GROUP TOKENS]

MODEL is a hub id, a folder or `builtin:tiny`, unquantised. Every completion has TOKENS tokens.
"""

import sys

import torch

from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.engine import close_engine, start_engine
from seccoderx_lite.models.engine_choice import measure_engines
from seccoderx_lite.recipe.recipe import check_recipe


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
    engine = start_engine(recipe, base)
    repeats = [measure_engines(recipe, base, engine, tokens) for _ in range(3)]
    close_engine(base)
    own, other = (min(seconds[name] for seconds in repeats) for name in ("generate", "vllm"))
    print(f"{prompts * group} x {tokens} tokens: model {own:.2f} s, vLLM {other:.2f} s with the")
    print(
        f"sync of the adapter, {own / other:.2f} times as fast; {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
