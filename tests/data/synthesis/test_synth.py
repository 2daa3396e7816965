"""The whole synthesis: from seeds to a data set, whatever happens on the way."""

import json
import random
from collections import Counter

import datasets
import pytest
from helpers.synthesis_server import LANGUAGES, serving

from seccoderx_lite.core.errors import DataError, GeneratorError, SeccoderxError
from seccoderx_lite.data.loading import in_split, load_labelled, load_tasks
from seccoderx_lite.data.synthesis.replies import Reply, ReplyCache, Usage
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.stages.synth import run

WEAKNESSES = ("CWE-89", "CWE-22", "CWE-78")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Thirty pieces of code in the plainest layout, one of them twice."""
    file = tmp_path_factory.mktemp("seeds") / "seeds.jsonl"
    rows = [
        {"code": f"def f{n}(x):\n    run(x + {n})", "language": "python", "cwe": WEAKNESSES[n % 3]}
        for n in range(30)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    return file


def make_recipe(seeds, url: str = "http://127.0.0.1:9/v1", **sections) -> SynthRecipe:
    generator = {
        "endpoint": url,
        "model": "played",
        "concurrency": 4,
        "timeout_s": 1.0,
        "backoff_s": 0.01,
        **sections.pop("generator", {}),
    }
    return SynthRecipe.model_validate(
        {"name": "x", "seeds": {"data": str(seeds)}, "generator": generator, **sections}
    )


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def good(seeds, tmp_path_factory):
    """A run that nothing disturbed, from a well-behaved server."""
    folder = tmp_path_factory.mktemp("good") / "run"
    with serving() as server:
        run(make_recipe(seeds, server.url), folder)
    return folder


def result(folder) -> str:
    return (folder / "dataset" / "tasks.jsonl").read_text()


def test_a_seed_gives_five_tasks_in_five_languages_less_what_is_dropped(good):
    assert len(rows(good / "seeds.jsonl")) == 30
    assert len(rows(good / "drafts.jsonl")) == 150
    drawn = Counter(draft["sampled_language"] for draft in rows(good / "drafts.jsonl"))
    assert drawn == dict.fromkeys(LANGUAGES, 30)
    assert len(rows(good / "dataset" / "tasks.jsonl")) + len(rows(good / "drops.jsonl")) == 150


def test_a_seed_of_a_common_weakness_gives_fewer(seeds, tmp_path):
    settings = {"per_seed": 4, "per_common_seed": 2, "common_from": 10}
    with serving() as server:
        run(make_recipe(seeds, server.url, scenarios=settings), tmp_path / "run")
    assert len(rows(tmp_path / "run" / "drafts.jsonl")) == 60


def test_every_drop_has_stage_and_reason(good):
    reasons = {drop["reason"] for drop in rows(good / "drops.jsonl")}
    assert reasons & {"prompt has a tell-tale word", "prompt has a CWE or CVE number"}
    assert all(drop["id"] and drop["stage"] for drop in rows(good / "drops.jsonl"))
    card = (good / "dataset" / "README.md").read_text()
    assert all(reason in card for reason in reasons)
    assert "same code as another seed | 1" in card


def test_the_set_is_the_same_from_a_server_that_misbehaves_and_nothing_is_asked_twice(
    good, seeds, tmp_path
):
    with serving(fault_share=0.5, hang_s=1.2) as server:
        run(make_recipe(seeds, server.url), tmp_path / "run")
        assert max(server.delivered.values()) == 1
        assert len(server.faults) > 8
    assert result(tmp_path / "run") == result(good)


class Killed(Exception):
    pass


def test_a_run_killed_at_five_moments_goes_on_to_the_same_set(good, seeds, tmp_path):
    draw = random.Random(4)
    with serving(fault_share=0.2, hang_s=1.2) as server:
        recipe = make_recipe(seeds, server.url)
        for _ in range(5):
            left = draw.randrange(2, 6)

            def progress(stage, step, total, values):
                nonlocal left
                left -= not values.get("done")
                if left < 0:
                    raise Killed

            try:
                run(recipe, tmp_path / "run", progress=progress)
            except Killed:
                drafts = tmp_path / "run" / "drafts.jsonl"
                if drafts.exists():  # what a kill in the middle of a chunk leaves
                    drafts.write_text(drafts.read_text() + '{"id": "torn')
        run(recipe, tmp_path / "run")
        assert max(server.delivered.values()) == 1
    assert result(tmp_path / "run") == result(good)


def test_a_fresh_run_asks_nothing_again(good, seeds, tmp_path):
    with serving() as server:
        recipe = make_recipe(seeds, server.url)
        run(recipe, tmp_path / "run")
        asked = sum(server.asked.values())
        run(recipe, tmp_path / "run", fresh=True)
        assert sum(server.asked.values()) == asked == 30 + 150
    assert result(tmp_path / "run") == result(good)


def test_a_run_stopped_by_its_cap_goes_on_when_the_cap_is_raised(good, seeds, tmp_path):
    prices = {"input_price": 1.0, "output_price": 1.0, "max_new_tokens": 100}
    with serving() as server:
        low = make_recipe(seeds, server.url, generator={**prices, "max_cost": 0.02})
        with pytest.raises(GeneratorError, match="max_cost"):
            run(low, tmp_path / "run")
        run(make_recipe(seeds, server.url, generator={**prices, "max_cost": 9.0}), tmp_path / "run")
        assert max(server.delivered.values()) == 1
    usage = json.loads((tmp_path / "run" / "stages.json").read_text())["flatten"]["usage"]
    assert usage["replies"] == 180
    assert usage["cost"] == pytest.approx((usage["input_tokens"] + usage["output_tokens"]) / 1e6)
    assert result(tmp_path / "run") == result(good)


def test_a_server_that_refuses_every_request_is_reported_at_once(seeds, tmp_path, httpd):
    url = httpd([(400, "response_format is not supported")] * 400)
    with pytest.raises(GeneratorError, match="json_mode"):
        run(make_recipe(seeds, url), tmp_path / "run")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"generator": {"api_key_env": "NO_SUCH_KEY"}}, "NO_SUCH_KEY is not set"),
        ({"filter": {"counts": "nowhere.json"}}, r"filter\.counts: nowhere\.json"),
        ({"model": {"base": "builtin:nothing"}}, "builtin:nothing"),
    ],
)
def test_what_later_stages_need_is_checked_before_anything_is_asked(
    seeds, tmp_path, sections, message
):
    with serving() as server:
        with pytest.raises(SeccoderxError, match=message):
            run(make_recipe(seeds, server.url, **sections), tmp_path / "run")
        assert not server.asked


def test_a_reply_that_says_nothing_is_counted_with_what_it_cost(tmp_path):
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.keep("a", Reply("text", 10, 20, 0.5))
        cache.keep_cost(Reply("", 1, 2, 0.25))
        cache.keep_cost(Reply("", 1, 2, 0.25))
        usage = Usage(replies=1, input_tokens=12, output_tokens=24, cost=1.0)
        assert cache.usage() == usage
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        assert cache.usage() == usage


def test_low_marks_are_dropped(seeds, tmp_path):
    with serving() as server:
        run(make_recipe(seeds, server.url, filter={"min_quality": 4}), tmp_path / "run")
    marks = Counter(record["mark"] for record in rows(tmp_path / "run" / "quality.jsonl"))
    dropped = Counter(drop["reason"] for drop in rows(tmp_path / "run" / "drops.jsonl"))
    assert dropped["quality is too low"] == marks[1] + marks[3] > 0


def test_the_set_loads_and_the_tasks_of_a_seed_share_a_split(good):
    tasks = load_tasks(good / "dataset")
    by_datasets = datasets.load_dataset(str(good / "dataset"), cache_dir=good / "cache")["train"]
    assert [task.id for task in tasks] == by_datasets["id"]
    splits = {}
    for task in tasks:
        splits.setdefault(task.extra["seed"], set()).add(task.extra["split"])
    assert all(len(found) == 1 for found in splits.values())
    shares = {
        name: len(in_split(tasks, name)) / len(tasks)
        for name in ("train", "validation", "held_out")
    }
    assert shares["train"] == pytest.approx(0.8, abs=0.07)
    assert shares["validation"] > 0 and shares["held_out"] == pytest.approx(0.15, abs=0.07)


SVEN = {
    "func_src_before": "a(x)",
    "func_src_after": "a(y)",
    "vul_type": "cwe-089",
    "file_name": "a.py",
}
PRIMEVUL = {
    "idx": 1,
    "func": "int f() { g(); }",
    "target": 1,
    "cwe": ["CWE-787"],
    "cve": "CVE-2020-1",
    "file_name": "a.cc",
}
LABELLED = {"code": "f(x)", "language": "python", "cwe": ["CWE-89"], "is_vulnerable": True}
LAYOUTS = {
    "SVEN": ([SVEN, {**SVEN, "func_src_before": "b(x)"}], [("python", "CWE-89")] * 2),
    "PrimeVul": (
        [PRIMEVUL, {**PRIMEVUL, "target": 0}, {**PRIMEVUL, "func": "h", "file_name": "None"}],
        [("cpp", "CWE-787"), ("c", "CWE-787")],
    ),
    "labelled code": (
        [LABELLED, {**LABELLED, "code": "g(x)", "is_vulnerable": False}],
        [("python", "CWE-89")],
    ),
    "code alone": ([{"code": "f(x)", "language": "C++", "cwe": "416"}], [("cpp", "CWE-416")]),
    "SecCoderX": (
        [{"code": "f(x)", "language_suffix": "js", "cwe": "CWE-79"}],
        [("javascript", "CWE-79")],
    ),
    "some unusable": (
        [
            LABELLED,
            {**LABELLED, "language": "cobol"},
            {**LABELLED, "cwe": []},
            {**LABELLED, "code": "x" * 99_999},
        ],
        [("python", "CWE-89")],
    ),
}


@pytest.mark.parametrize(("given", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_seeds_are_read_in_every_known_layout(tmp_path, given, expected):
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in given))
    with serving() as server:
        run(make_recipe(file, server.url), tmp_path / "run")
    found = [(seed["language"], seed["cwe"]) for seed in rows(tmp_path / "run" / "seeds.jsonl")]
    assert sorted(found) == sorted(expected)


def test_a_row_left_out_is_reported_with_its_place(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in LAYOUTS["some unusable"][0]))
    with serving() as server:
        run(make_recipe(file, server.url), tmp_path / "run")
    drops = {drop["place"]: drop["reason"] for drop in rows(tmp_path / "run" / "seed_drops.jsonl")}
    assert drops == {
        f"{file}, line 2": "language 'cobol' is not supported",
        f"{file}, line 3": "no CWE",
        f"{file}, line 4": "code is too long",
    }


def test_seeds_without_anything_vulnerable_are_refused(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({**LABELLED, "is_vulnerable": False}))
    with pytest.raises(DataError, match="no row can be a seed"):
        run(make_recipe(file), tmp_path / "run")


def test_a_limit_draws_seeds_at_random(seeds, tmp_path):
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        with serving() as server:
            recipe = make_recipe(seeds, server.url, seed=seed, scenarios={"per_seed": 1})
            limited = recipe.model_copy(
                update={"seeds": recipe.seeds.model_copy(update={"limit": 9})}
            )
            run(limited, tmp_path / str(number))
        drawn.append([s["id"] for s in rows(tmp_path / str(number) / "seeds.jsonl")])
    assert drawn[0] == drawn[1] != drawn[2]
    assert {len(ids) for ids in drawn} == {9}


RULES = {
    "name": "x",
    "seeds": {"data": "builtin:tiny", "split": "train", "limit": 8},
    "generator": {"model": "builtin:templates"},
    "scenarios": {"per_seed": 2},
    "tasks": {"languages": ["python"]},
}


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    """A small run of the embedded demo: references of the tiny base, and tests."""
    folder = tmp_path_factory.mktemp("ruled") / "run"
    recipe = SynthRecipe.model_validate(
        {
            **RULES,
            "model": {"base": "builtin:tiny"},
            "references": {"max_new_tokens": 96},
            "tests": {"candidates": 1},
            "layouts": ["tasks", "seccoderx"],
        }
    )
    run(recipe, folder)
    return folder


def test_references_are_code_of_the_base_and_tests_have_proved_themselves(ruled):
    tasks = load_tasks(ruled / "dataset")
    assert tasks and all(task.reference and "def " in task.reference for task in tasks)
    assert all(task.tests["kind"] == "calls" for task in tasks)
    for record in rows(ruled / "tests.jsonl"):
        assert record["candidates_passed"] >= 1 and record["candidates_refuted"] >= 1


def test_the_published_columns_load_as_the_published_sets_do(ruled):
    own, published = load_tasks(ruled / "dataset"), ruled / "dataset-seccoderx"
    by_datasets = datasets.load_dataset(str(published), cache_dir=ruled / "cache")
    for split, loaded in by_datasets.items():
        assert [(t.prompt, t.language, t.cwe, t.reference) for t in in_split(own, split)] == [
            (t.prompt, t.language, t.cwe, t.reference) for t in load_tasks(published, split)
        ]
        assert loaded["problem"] == [t.prompt for t in in_split(own, split)]
    assert set(by_datasets) == {task.extra["split"] for task in own}
    row = rows(published / "train.jsonl")[0]
    assert row["language_suffix"] == "py" and row["codebleu_lang"] == "python"
    assert row["answer"] is None and row["cwe_id"] == [row["cwe"]]
    assert row["generated_code"] in row["response_builtin_tiny"]


def test_seeds_of_the_demo_are_the_embedded_vulnerable_code(ruled):
    vulnerable = {code.code for code in load_labelled("builtin:tiny") if code.is_vulnerable}
    assert {seed["code"] for seed in rows(ruled / "seeds.jsonl")} <= vulnerable


def test_a_local_model_is_asked_through_the_shared_base(tmp_path):
    """The tiny base cannot answer in JSON: both replies are unusable, and the drops say so."""
    generator = {"model": "builtin:tiny", "max_new_tokens": 8, "batch_size": 2}
    recipe = SynthRecipe.model_validate({**RULES, "generator": generator})
    with pytest.raises(DataError, match=r"no task is left: scenarios: unusable reply \(8\)"):
        run(recipe, tmp_path / "run")
    drops = rows(tmp_path / "run" / "drops.jsonl")
    assert {drop["detail"] for drop in drops} == {"it holds no complete JSON object"}
