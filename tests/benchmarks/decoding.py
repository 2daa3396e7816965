"""Where the time of a generation goes: milliseconds per token, and the kernels in them.

    python tests/benchmarks/decoding.py SHAPE [--rows 8] [--prompt 256] [--tokens 64]

SHAPE is a config.json, a model folder, a hub id or builtin:tiny; the weights are random, with an
adapter, as in a rollout. Four ways to generate the same number of tokens are timed. On a GPU the
time in kernels and the time to read all weights once show whether launches or bandwidth limit it.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from peft import get_peft_model

from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import lora_config
from seccoderx_lite.models.base import compute_dtype, load_base
from seccoderx_lite.models.decoding import decode, decode_in_graphs, exact_length, generating
from seccoderx_lite.models.gpus import GPUS
from seccoderx_lite.models.shapes import model_shape
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    recipe = ModelRecipe(base=f"random:{options.shape}", quantization=options.quantization)
    base = load_base(recipe)
    base.model = get_peft_model(base.model, lora_config(LoraRecipe()))
    prompt = torch.randint(5, 900, (1, options.prompt), device=base.device)
    prompts = prompt.repeat(options.rows, 1)
    figures = {
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "rows": options.rows,
        "dtype": str(compute_dtype()),
        "ms_to_read_the_weights": _reading_ms(options.shape, options.quantization),
    }
    for name, settings in WAYS.items():
        try:
            with acting_as("trained", base.model, base.tokenizer), generating(base) as fast:
                figures[name] = _measured(base, prompts, options.tokens, settings(fast))
        except Exception as error:  # one way that fails must not hide the others
            figures[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(name, figures[name], flush=True)
        if options.output:
            options.output.write_text(json.dumps(figures, indent=2))


WAYS = {
    "decode": lambda fast: fast and {**fast, "custom_generate": decode},
    "decode, graph": lambda fast: fast and {**fast, "custom_generate": decode_in_graphs},
    "transformers": lambda fast: {},
    "transformers, static cache": lambda fast: {"cache_implementation": "static"},
}


def _measured(base, prompts, tokens, settings):
    def generate(count):
        torch.manual_seed(0)
        start = time.perf_counter()
        base.model.generate(
            **exact_length(prompts, count),
            do_sample=True,
            temperature=0.8,
            top_k=0,
            **settings,
        )
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first = generate(tokens)  # compiles, and allocates memory
    prefill, whole = generate(1), generate(tokens)
    figures = {
        "first_s": round(first, 2),
        "prefill_ms": round(1000 * prefill, 2),
        "ms_per_token": round(1000 * (whole - prefill) / (tokens - 1), 3),
        "tokens_per_s": round(len(prompts) * tokens / whole, 1),
    }
    return figures | (_kernels(generate) if torch.cuda.is_available() else {})


def _kernels(generate, tokens=9):
    """Return the milliseconds and number of kernels per token, and the five longest."""
    profile = torch.profiler.profile
    both = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with profile(activities=both) as one:
        generate(1)
    with profile(activities=both) as many:
        generate(tokens)

    def of(profiled):
        on_gpu = torch.autograd.DeviceType.CUDA
        kernels = [event for event in profiled.key_averages() if event.device_type == on_gpu]
        return {event.key: (event.self_device_time_total, event.count) for event in kernels}

    before, after, more = of(one), of(many), tokens - 1
    spent = {}
    for key, (us, count) in after.items():
        us_before, count_before = before.get(key, (0, 0))
        spent[key] = ((us - us_before) / more, (count - count_before) / more)
    longest = sorted(spent.items(), key=lambda item: -item[1][0])[:5]
    return {
        "kernel_ms_per_token": round(sum(us for us, _ in spent.values()) / 1000, 3),
        "kernels_per_token": round(sum(count for _, count in spent.values()), 1),
        "longest": {key[:80]: round(us / 1000, 3) for key, (us, _) in longest},
    }


def _reading_ms(shape, quantization):
    """Return the time to read all weights once at the card's bandwidth, None for unknown cards."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    card = next((gpu for known, gpu in GPUS.items() if known.split()[0] in name.split()), None)
    if card is None:
        return None
    size = model_shape(shape).base_bytes(quantization, 2)
    return round(1000 * size / card.bytes_per_s, 3)


if __name__ == "__main__":
    main()
