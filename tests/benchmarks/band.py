"""Accuracy of `cascade` by share of code reasoned about, with the band calibrated on one split.

    python tests/benchmarks/band.py runs/tiny/judge/adapter [--base NAME] [--data NAME]

All code is judged once in each mode; every line of the table is computed from these verdicts.
"""

import argparse
from pathlib import Path

from seccoderx_lite.data.loading import load_labelled
from seccoderx_lite.judge.judge import CodeToJudge, Judge
from seccoderx_lite.judge.unsure_band import after_reasoning, calibrated_band
from seccoderx_lite.models.adapters import attach_adapter
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import JudgeRecipe, ModelRecipe

SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.25)


def ask(judge, rows):
    """Probabilities, and whether the reasoned and the direct verdict on each row is right."""
    items = [CodeToJudge(row.code, row.language, row.cwe) for row in rows]
    direct = judge.direct(items)
    reasoned = [after_reasoning(*pair) for pair in zip(direct, judge.reasoned(items), strict=True)]
    truths = [row.is_vulnerable for row in rows]
    direct_right, reasoned_right = (
        [verdict.is_right(truth) for verdict, truth in zip(verdicts, truths, strict=True)]
        for verdicts in (direct, reasoned)
    )
    return [verdict.p_vulnerable for verdict in direct], reasoned_right, direct_right


def cascade(band, probabilities, reasoned_right, direct_right):
    """Accuracy, and the share of code that is reasoned about."""
    inside = [band[0] < p < band[1] for p in probabilities]
    right = [r if i else d for i, r, d in zip(inside, reasoned_right, direct_right, strict=True)]
    return sum(right) / len(right), sum(inside) / len(inside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--data", default="builtin:tiny")
    parser.add_argument("--found-on", default="validation")
    parser.add_argument("--used-on", nargs="+", default=["held_out", "transfer"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    options = parser.parse_args()
    base = load_base(ModelRecipe(base=options.base))
    attach_adapter(base, options.adapter, "judge")
    recipe = JudgeRecipe(
        base="shared", batch_size=options.batch_size, max_new_tokens=options.max_new_tokens
    )
    judge = Judge.on(base, recipe)
    rows = load_labelled(options.data)
    splits = [options.found_on, *options.used_on]
    asked = {s: ask(judge, [r for r in rows if r.extra.get("split") == s]) for s in splits}
    for split, (_, reasoned, direct) in asked.items():
        print(
            f"{split}: direct {sum(direct) / len(direct):.4f}, "
            f"reason {sum(reasoned) / len(reasoned):.4f}, n {len(direct)}"
        )
    print("share  band            " + "  ".join(f"{split:>22}" for split in splits))
    for share in SHARES:
        band = calibrated_band(*asked[options.found_on], share=share)
        results = (cascade(band, *asked[split]) for split in splits)
        columns = "  ".join(f"{right:>10.4f} ({part:>6.1%})" for right, part in results)
        print(f"{share:>5.2f}  {band[0]:.3f} to {band[1]:.3f}  {columns}")


if __name__ == "__main__":
    main()
