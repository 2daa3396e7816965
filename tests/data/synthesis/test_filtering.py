"""The filter: what is dropped and why, and that a resumed filter drops the same."""

import random

import pytest

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.data.loading import load_tasks
from seccoderx_lite.data.synthesis.duplicates import NearDuplicates, jaccard, shingles_of
from seccoderx_lite.data.synthesis.filtering import FILTERED, Filter, read_counts
from seccoderx_lite.data.synthesis.rules import broken_rule, giveaway
from seccoderx_lite.data.synthesis.stage_files import process_in_chunks
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run.folder import RunFolder

PROMPT = "Write a function that returns all rows of the table users whose name is given."


def make_recipe(**settings) -> SynthRecipe:
    return SynthRecipe.model_validate(
        {"name": "x", "seeds": {"data": "x"}, "generator": {"model": "m"}, "filter": settings}
    )


def draft(number: int, prompt: str = PROMPT, language: str = "python", cwe: str = "CWE-89"):
    return {"id": f"d{number}", "prompt": prompt, "language": language, "cwe": cwe}


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("Handle CWE-89 as well.", "prompt has a CWE or CVE number"),
        ("It must not have CVE 2021-44228.", "prompt has a CWE or CVE number"),
        ("Avoid SQL injection.", "prompt names a weakness"),
        ("Beware of a path traversal.", "prompt names a weakness"),
        ("The parser is vulnerable on purpose.", "prompt has a tell-tale word"),
        ("Store the password securely.", "prompt has a tell-tale word"),
        ("An attacker may send anything.", "prompt has a tell-tale word"),
        ("Run it without any validation.", "prompt asks for insecurity"),
        ("Do not check the length of the input.", "prompt asks for insecurity"),
        ("Skip verification of the server.", "prompt asks for insecurity"),
        ("Check the input against the list of names.", None),
        ("The guard's security desk prints a badge for every guest.", None),
        ("Escape the row of tents and check in at the harbour.", None),
    ],
)
def test_a_prompt_that_gives_the_weakness_away_is_recognised(prompt, reason):
    assert giveaway(prompt) == reason


def test_the_embedded_tasks_pass_the_rules():
    prompts = {task.prompt for task in load_tasks("builtin:tiny") if task.cwe}
    assert [prompt for prompt in prompts if giveaway(prompt)] == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"language": "cobol"}, "language is not known"),
        ({"language": "go"}, "language is not one of the recipe's"),
        ({"prompt": "Sort."}, "prompt is too short"),
        ({"prompt": "Sort it. " * 999}, "prompt is too long"),
    ],
)
def test_language_and_length_are_rules_too(changed, reason):
    recipe = make_recipe()
    assert broken_rule(draft(1) | changed, recipe.filter, recipe.tasks.languages) == reason


def judged(recipe, folder, drafts, chunk=4):
    work = Filter(recipe, folder)
    process_in_chunks(folder, FILTERED, iter(drafts), work, chunk, lambda done: None)
    work.close()
    return [record.get("dropped") for record in folder.read_jsonl(FILTERED)]


@pytest.fixture
def folder(tmp_path):
    with RunFolder.open(tmp_path / "run", make_recipe()) as opened:
        yield opened


def test_a_near_duplicate_is_dropped_and_says_of_what(folder):
    other = "Draw a chart of the sales of each month and save it as a picture file."
    drafts = [draft(1), draft(2, other), draft(3, PROMPT.replace("given.", "given!")), draft(4)]
    assert judged(make_recipe(), folder, drafts) == [None, None, "near-duplicate", "near-duplicate"]
    assert [r.get("detail") for r in folder.read_jsonl(FILTERED)][2:] == ["of d1", "of d1"]


def test_the_same_task_in_another_language_is_another_task(folder):
    assert judged(make_recipe(), folder, [draft(1), draft(2, language="java")]) == [None, None]


def test_duplicates_can_be_kept(folder):
    assert judged(make_recipe(near_duplicate=None), folder, [draft(1), draft(2)]) == [None, None]


def different(count: int):
    draw = random.Random(1)
    words = [f"word{n}" for n in range(300)]
    for number in range(count):
        language, cwe = draw.choice(("python", "java")), draw.choice(("CWE-89", "CWE-22"))
        yield draft(number, " ".join(draw.sample(words, 15)), language, cwe)


@pytest.mark.parametrize(
    ("settings", "key", "most"),
    [({"max_per_cwe": 5}, "cwe", 5), ({"max_per_language": 7}, "language", 7)],
)
def test_a_cap_holds(folder, settings, key, most):
    drafts = list(different(40))
    dropped = judged(make_recipe(**settings), folder, drafts)
    kept = [d[key] for d, reason in zip(drafts, dropped, strict=True) if reason is None]
    assert {kept.count(value) for value in set(kept)} == {most}
    assert set(dropped) == {None, f"enough of this {'weakness' if key == 'cwe' else 'language'}"}


def test_a_counts_file_says_how_many_of_each_weakness(folder, tmp_path):
    file = tmp_path / "counts.json"
    file.write_text('{"cwe-089": 3}')
    dropped = judged(make_recipe(counts=str(file)), folder, list(different(40)))
    assert dropped.count(None) == 3


@pytest.mark.parametrize("text", ["- 1", '{"CWE-89": "many"}', '{"SQL": 3}', "{"])
def test_a_counts_file_of_another_form_is_refused(tmp_path, text):
    file = tmp_path / "counts.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"counts\.yaml"):
        read_counts(str(file))


class Killed(Exception):
    pass


@pytest.mark.parametrize("index_survives", [True, False])
def test_a_killed_filter_goes_on_to_the_same_result(tmp_path, index_survives):
    drafts = [d for d in different(30) for _ in (1, 2)]
    recipe = make_recipe(max_per_cwe=20)
    with RunFolder.open(tmp_path / "whole", recipe) as whole:
        expected = judged(recipe, whole, drafts)

    def cut_short(position, part):
        if position >= 24:
            raise Killed
        return work(position, part)

    with RunFolder.open(tmp_path / "cut", recipe) as cut:
        work = Filter(recipe, cut)
        with pytest.raises(Killed):
            process_in_chunks(cut, FILTERED, iter(drafts), cut_short, 4, lambda done: None)
        cut.append_jsonl(FILTERED, drafts[24])  # a chunk that was not finished
        if not index_survives:
            (tmp_path / "cut" / "near_duplicates.sqlite").unlink()
        assert judged(recipe, cut, drafts) == expected


def test_near_duplicates_are_found_as_a_search_of_all_pairs_finds_them(tmp_path):
    draw = random.Random(3)
    texts = []
    for _ in range(40):
        words = [f"w{draw.randrange(2000)}" for _ in range(40)]
        texts.append(" ".join(words))
        changed = list(words)
        for place in draw.sample(range(40), draw.choice((0, 1, 2, 12))):
            changed[place] = "other"
        texts.append(" ".join(changed))
    index = NearDuplicates(tmp_path / "index", 0.7)
    kept: list[str] = []
    for number, text in enumerate(texts):
        twin = next((k for k in kept if jaccard(shingles_of(k), shingles_of(text)) >= 0.7), None)
        sketch = index.sketch("python", text)
        found = index.find(sketch)
        assert found is None or twin is not None
        assert (found is not None) == (twin is not None), "the index misses one in thousands"
        if twin is None:
            kept.append(text)
            index.add(number, text, sketch)
    assert 40 <= len(kept) < len(texts)
