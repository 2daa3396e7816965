"""Held-out ESR of the tiny recipe with and without the curriculum, by steps and CPU seconds.

    python tests/benchmarks/curriculum.py OUT [--steps 40] [--every 10] [--seeds 0 1 2]

The policy is rewarded by its tests, without a judge, so that nothing but the curriculum differs.
CPU seconds are those of this process and its ended children, held-out measurements included: on a
shared machine they say more than wall time. A folder that is there already is read, not run again.
"""

import argparse
import json
import resource
from pathlib import Path

from seccoderx_lite.recipe.recipe import load_recipe
from seccoderx_lite.stages.pipeline import train

CURRICULA = ("none", "spread")


def cpu_seconds():
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def recipe_of(curriculum, seed, steps, every):
    return load_recipe(
        "tiny",
        [
            "judge=null",
            "evaluate=null",
            "export=null",
            "policy.reward.judge=false",
            "policy.reward.security_tests=true",
            f"policy.grpo.curriculum={curriculum}",
            f"policy.grpo.steps={steps}",
            f"policy.held_out={{every: {every}, count: 50, samples: 2}}",
            f"seed={seed}",
        ],
    )


def measured(folder, recipe):
    """Run a recipe unless its folder has the result; return its metrics with CPU seconds."""
    result = folder / "cpu.json"
    if not result.exists():
        marks = []

        def note(stage, step, total, values):
            if stage == "policy" and total > 1:
                marks.append((step, cpu_seconds()))

        train(recipe, folder, progress=note)
        result.write_text(json.dumps(marks))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["stage"] == "policy"], json.loads(result.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    print("| seed | curriculum | groups without spread | CPU s | held-out ESR by step |")
    print("|---|---|---|---|---|")
    for seed in given.seeds:
        for curriculum in CURRICULA:
            recipe = recipe_of(curriculum, seed, given.steps, given.every)
            rows, marks = measured(given.out / f"{curriculum}-{seed}", recipe)
            flat = [row["zero_variance_share"] for row in rows if "zero_variance_share" in row]
            esr = [f"{r['step']}: {r['held_out_esr']:.3f}" for r in rows if "held_out_esr" in r]
            used = marks[-1][1] - marks[0][1] if marks else 0.0
            print(
                f"| {seed} | {curriculum} | {sum(flat) / len(flat):.2f} | {used:.0f} "
                f"| {', '.join(esr)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
