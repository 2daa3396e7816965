"""Bad input of many kinds through the command line: no traceback, no hang, a message that helps."""

import os
import random
import shutil
from collections import Counter

import pytest
from helpers.fuzzing import models, texts
from helpers.fuzzing.command import run
from helpers.fuzzing.world import make_world

SEED = int(os.environ.get("FUZZ_SEED", "0"))
SOURCES = (
    texts.recipe_files,
    texts.overrides,
    texts.arguments,
    texts.data_files,
    texts.sources,
    models.bases,
    models.adapters,
    models.run_folders,
    models.machine,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The world, and a copy to restore it from: a run knows the paths of its data."""
    world = make_world(tmp_path_factory.mktemp("fuzz") / "world")
    return world, shutil.copytree(world, world.with_name("kept"))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_bad_input_gets_a_message_that_helps(world, tmp_path, source, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    faults = []
    counted = Counter()
    folder, kept = world
    for case in source(random.Random(SEED)):
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        monkeypatch.chdir(folder)
        case.prepare(folder)
        outcome = run(case)
        counted[outcome.code] += 1
        faults += [f"{case.kind}, {case.name}: {fault}" for fault in outcome.faults]
    monkeypatch.chdir(tmp_path)
    print(f"{source.__name__}: {counted.total()} inputs, exit codes {dict(counted)}")
    assert not faults, "\n".join(faults)
