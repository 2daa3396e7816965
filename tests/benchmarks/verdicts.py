"""Verdicts per second, tokens per second and accuracy of the three modes of one judge.

    python tests/benchmarks/verdicts.py runs/tiny/judge/adapter [--base NAME] [--data NAME]

Rounds alternate between the modes, so that other load affects all modes alike; the median round
counts. Every round starts with empty caches of verdicts and prefixes. Token counts include prompt
prefixes served from the cache.
"""

import argparse
import statistics
import time
from pathlib import Path

from seccoderx_lite.data.loading import load_labelled
from seccoderx_lite.judge.judge import CodeToJudge, Judge, judge_prompt
from seccoderx_lite.judge.unsure_band import unsure_band
from seccoderx_lite.models.adapters import attach_adapter
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.generation import render_chat
from seccoderx_lite.recipe.recipe import JudgeRecipe, ModelRecipe

MODES = ("reason", "direct", "cascade")


def accuracy(verdicts, rows) -> float:
    """Share of right labels; unclear counts as wrong."""
    right = sum(v.is_right(r.is_vulnerable) for v, r in zip(verdicts, rows, strict=True))
    return right / len(rows)


def tokens(tokenizer, items, verdicts, recipe) -> int:
    """Tokens of all prompts and answers behind the verdicts."""
    texts = []
    for item, verdict in zip(items, verdicts, strict=True):
        if recipe.verdict != "reason":
            texts.append(render_chat(tokenizer, judge_prompt(item, recipe, "direct")))
        if verdict.reasoning:
            texts.append(render_chat(tokenizer, judge_prompt(item, recipe)) + verdict.reasoning)
    return sum(map(len, tokenizer(texts)["input_ids"]))


def measure(base, adapter, rows, batch_size, rounds, max_new_tokens) -> None:
    """Print one line per mode."""
    items = [CodeToJudge(row.code, row.language, row.cwe) for row in rows]
    recipes = {
        mode: JudgeRecipe(
            base="shared", verdict=mode, batch_size=batch_size, max_new_tokens=max_new_tokens
        )
        for mode in MODES
    }
    seconds = {mode: [] for mode in MODES}
    verdicts = {}
    for number in range(rounds + 1):
        for mode in MODES if number % 2 else MODES[::-1]:
            judge = Judge.on(base, recipes[mode], unsure=unsure_band(adapter))
            start = time.perf_counter()
            verdicts[mode] = judge.verdicts(items)
            if number:  # the first round warms up
                seconds[mode].append(time.perf_counter() - start)
    cost = {mode: statistics.median(seconds[mode]) for mode in MODES}
    for mode in MODES:
        reasoned = sum(bool(v.reasoning) for v in verdicts[mode])
        count = tokens(base.tokenizer, items, verdicts[mode], recipes[mode])
        print(
            f"{batch_size:>5}  {mode:<8} {len(items) / cost[mode]:>10.1f} "
            f"{count / cost[mode]:>9.0f} {cost['reason'] / cost[mode]:>9.1f}x "
            f"{accuracy(verdicts[mode], rows):>9.3f} {reasoned / len(items):>9.1%}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--data", default="builtin:tiny")
    parser.add_argument("--splits", nargs="+", default=["held_out", "transfer"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--plain", action="store_true", help="generate as transformers does")
    options = parser.parse_args()
    base = load_base(ModelRecipe(base=options.base, fast_generation=not options.plain))
    attach_adapter(base, options.adapter, "judge")
    rows = [r for r in load_labelled(options.data) if r.extra.get("split") in options.splits]
    print("batch  mode      verdicts/s  tokens/s  vs reason  accuracy  reasoned")
    for size in options.batch_sizes:
        measure(base, options.adapter, rows, size, options.rounds, options.max_new_tokens)


if __name__ == "__main__":
    main()
