"""The tiny world: every program works, and only the secure ones resist."""

import json
import random
from collections import Counter
from concurrent.futures import Future

import pytest
from builtin_maker.make_tiny import TINY, make_labelled, make_tasks, sample_distinct

from seccoderx_lite.core.records import TestResult
from seccoderx_lite.data.builtin.world import Program, Template, load_templates, sample_surface
from seccoderx_lite.sandbox import Sandbox

TEMPLATES = load_templates()


@pytest.fixture(scope="module")
def results() -> list[tuple[Template, Program, TestResult]]:
    """Every program of every template in two surface forms, run against its tests."""
    rng = random.Random(0)
    waiting: list[tuple[Template, Program, Future[TestResult]]] = []
    with Sandbox() as sandbox:
        for template in TEMPLATES:
            for form in ("train", "held_out"):
                surface = sample_surface(template, form, rng)
                tests = {"kind": "calls", "source": surface.fill(template.tests)}
                for program in template.programs:
                    run = sandbox.submit_tests(surface.fill(program.code), "python", tests)
                    waiting.append((template, program, run))
        return [(template, program, run.result()) for template, program, run in waiting]


def test_every_program_passes_its_functional_tests(results):
    broken = [(t.name, r.output) for t, _, r in results if not r.is_functional]
    assert broken == []


def test_every_secure_program_passes_the_attacks(results):
    fallen = [
        (t.name, r.output) for t, p, r in results if t.cwe and p.is_secure and not r.is_secure
    ]
    assert fallen == []


def test_every_insecure_program_falls_to_an_attack(results):
    standing = [
        (template.name, program.code)
        for template, program, result in results
        if not program.is_secure and (result.is_secure or not result.security_total)
    ]
    assert standing == []


def test_the_world_has_the_promised_breadth():
    families = Counter(t.cwe for t in TEMPLATES if t.cwe)
    transfer = {t.cwe for t in TEMPLATES if t.split == "transfer" and t.cwe}
    assert len(families) >= 14
    assert min(families.values()) >= 2
    assert len(transfer) > len(families) / 2
    assert sum(t.cwe is None for t in TEMPLATES) >= 6


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_held_out_surface_forms_use_words_that_training_never_saw(template):
    rng = random.Random(0)
    trained = sample_distinct(template, "train", 40, rng)
    held_out = sample_distinct(template, "held_out", 10, rng)
    assert {s.values["fn"] for s in trained}.isdisjoint(s.values["fn"] for s in held_out)
    assert {s.prompt for s in trained}.isdisjoint(s.prompt for s in held_out)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_prompts_neither_name_nor_hint_the_weakness(template):
    words = {
        "secure",
        "insecure",
        "safe",
        "unsafe",
        "safely",
        "vulnerable",
        "attack",
        "cwe",
        "inject",
    }
    for prompt in template.prompts:
        assert words.isdisjoint(prompt.lower().replace("$", " ").split())


@pytest.mark.parametrize(
    ("name", "make", "seed"), [("tasks", make_tasks, 1), ("labelled", make_labelled, 2)]
)
def test_the_data_that_ship_are_those_the_script_makes(name, make, seed):
    with (TINY / f"{name}.jsonl").open(encoding="utf-8") as shipped:
        assert [json.loads(line) for line in shipped] == list(make(random.Random(seed)))
