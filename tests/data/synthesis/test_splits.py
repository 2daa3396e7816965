"""Splits of seeds: relatives stay together, and shares hold."""

import json
from collections import Counter

import pytest

from seccoderx_lite.data.synthesis import seeds
from seccoderx_lite.data.synthesis.splits import draw_split
from seccoderx_lite.recipe.synth import SplitsRecipe, SynthRecipe
from seccoderx_lite.run.folder import RunFolder

BODY = "".join(f"    total += rows[{n}].price * rate_{n}\n" for n in range(40))


def split_of_each(tmp_path, rows, **settings) -> dict[str, str]:
    """Gather seeds of rows and return the split of each code."""
    file = tmp_path / "data.jsonl"
    given = ({"language": "python", "cwe": "CWE-89", **row} for row in rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in given))
    recipe = SynthRecipe.model_validate(
        {"name": "x", "seeds": {"data": str(file)}, "generator": {"model": "m"}, **settings}
    )
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        seeds.gather(recipe, folder)
        return {seed["code"]: seed["split"] for seed in folder.read_jsonl(seeds.SEEDS)}


def others(count: int, **columns) -> list[dict]:
    return [{"code": f"call_{n}(x, y{n})", **columns} for n in range(count)]


@pytest.mark.parametrize("column", ["group", "commit_link", "commit_url", "commit_id", "cve"])
def test_seeds_of_one_origin_share_a_split(tmp_path, column):
    rows = [{"code": f"f{n}(a{n})", column: f"origin {n % 12}"} for n in range(36)]
    found = split_of_each(tmp_path, rows)
    together = {row[column]: set() for row in rows}
    for row in rows:
        together[row[column]].add(found[row["code"]])
    assert all(len(names) == 1 for names in together.values())
    assert set.union(*together.values()) == {"train", "held_out", "validation"}


def test_an_origin_that_says_nothing_makes_no_relatives(tmp_path):
    assert set(split_of_each(tmp_path, others(20, cve="None", commit_id="")).values()) == {
        "train",
        "held_out",
        "validation",
    }


def test_nearly_the_same_code_shares_a_split(tmp_path):
    copies = [{"code": f"def f(rows):\n{BODY}    return total + {n}"} for n in range(12)]
    found = split_of_each(tmp_path, [*copies, *others(30)])
    assert len({found[row["code"]] for row in copies}) == 1


def test_relatives_of_relatives_are_relatives(tmp_path):
    chain = [
        {"code": f"f{n}(a{n})", "cve": f"CVE-{n // 2}", "group": f"g{(n + 1) // 2}"}
        for n in range(10)
    ]
    found = split_of_each(tmp_path, [*chain, *others(40)])
    assert len({found[row["code"]] for row in chain}) == 1


def test_a_limited_set_has_its_splits_too(tmp_path):
    found = split_of_each(
        tmp_path, others(50), seeds={"data": str(tmp_path / "data.jsonl"), "limit": 6}
    )
    assert Counter(found.values()) == {"train": 4, "held_out": 1, "validation": 1}


@pytest.mark.parametrize("sizes", [[1] * 1000, [1, 9] * 100, [300, *[1] * 700]])
def test_shares_hold_by_seeds_whatever_the_families(sizes):
    counts: Counter[str] = Counter()
    drawn = draw_split(iter((str(n), size) for n, size in enumerate(sizes)), SplitsRecipe())
    for (_, split), size in zip(drawn, sizes, strict=True):
        counts[split] += size
    assert counts["held_out"] / sum(sizes) == pytest.approx(0.15, abs=0.01)
    assert counts["validation"] / sum(sizes) == pytest.approx(0.05, abs=0.01)


def test_a_split_without_a_share_stays_empty(tmp_path):
    none = {"validation": 0.0, "held_out": 0.0}
    assert set(split_of_each(tmp_path, others(20), splits=none).values()) == {"train"}
