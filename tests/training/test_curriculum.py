"""The curriculum: what is drawn, how often, and that a resumed run draws the same."""

import contextlib
import doctest
import json
from collections import Counter
from types import SimpleNamespace

import pytest
from helpers.small_runs import GROUP, CountingReward, small_recipe

from seccoderx_lite.models.base import load_base
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training import curriculum as module
from seccoderx_lite.training.curriculum import LEAST, Curriculum, spread_of_groups
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config, prompts_in_all
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer

NAMES = [f"t{number}" for number in range(20)]
OF_ONE_SOURCE = dict.fromkeys(NAMES, "mine")
FLAT, APART = [1.0] * 4, [0.0, 2.0] * 2


def rewards_of(task):
    """Every fourth task teaches something."""
    return APART if int(task[1:]) % 4 == 0 else FLAT


def drawn(curriculum, draws):
    """Draw and record as training does; return what was drawn."""
    tasks = []
    for draw in draws:
        tasks.append(curriculum.tasks(draw))
        rewards = [reward for task in tasks[-1] for reward in rewards_of(task)]
        ids = [task for task in tasks[-1] for _ in FLAT]
        curriculum.record(draw, ids, rewards, len(FLAT))
    return tasks


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([0.0, 4.0, 2.0, 2.0], {"a": 1.0, "b": 0.0}),
        ([3.0, 3.0, 3.0, 3.0], {"a": 0.0, "b": 0.0}),
        ([None, 4.0, 0.0, 4.0], {"b": 1.0}),
        ([float("nan"), 4.0, 1.0, 1.0], {"b": 0.0}),
        ([None, None, None, None], {}),
    ],
)
def test_the_spread_of_a_group_is_compared_with_the_whole_step(rewards, expected):
    assert spread_of_groups(["a", "a", "b", "b"], rewards, 2) == pytest.approx(expected)


def test_a_small_spread_counts_little():
    spreads = spread_of_groups(["a", "a", "b", "b"], [0.0, 6.0, 6.0, 5.9], 2)
    assert spreads["a"] == 1.0 and 0 < spreads["b"] < 0.03


def test_a_step_has_no_task_twice_if_there_are_enough():
    curriculum = Curriculum(OF_ONE_SOURCE, 8, seed=0)
    assert all(len(set(tasks)) == 8 for tasks in drawn(curriculum, range(30)))
    two = Curriculum(dict.fromkeys(["t1", "t2"], "mine"), 5, seed=0)
    assert Counter(two.tasks(0)).most_common()[-1][1] == 2


def test_tasks_that_teach_come_more_often_and_the_others_still_come():
    curriculum = Curriculum(OF_ONE_SOURCE, 4, seed=1)
    counts = Counter(task for tasks in drawn(curriculum, range(400))[50:] for task in tasks)
    taught = [counts[task] for task in NAMES if rewards_of(task) is APART]
    flat = [counts[task] for task in NAMES if rewards_of(task) is FLAT]
    assert min(flat) > 0
    assert min(taught) > 3 * max(flat)


def test_a_task_that_begins_to_teach_comes_back():
    curriculum = Curriculum(OF_ONE_SOURCE, 4, seed=0)
    for draw in range(5):
        curriculum.record(draw, ["t1"] * 4 + ["t2"] * 4, [*FLAT, *APART], 4)
        curriculum.tasks(draw + 2)
    assert curriculum._weights["t1"] < LEAST < curriculum._weights["t2"]
    curriculum.record(5, ["t1"] * 4, APART, 4)
    curriculum.tasks(7)
    assert curriculum._weights["t1"] > 0.5


def test_a_draw_does_not_depend_on_how_early_it_is_read():
    early, late = Curriculum(OF_ONE_SOURCE, 4, seed=0), Curriculum(OF_ONE_SOURCE, 4, seed=0)
    ahead = []
    for draw in range(20):
        tasks = late.tasks(draw)
        for each in (early, late):
            ids = [task for task in tasks for _ in FLAT]
            each.record(draw, ids, [r for task in tasks for r in rewards_of(task)], 4)
            if each is early:  # one batch ahead, as a data loader reads
                ahead.append((draw + 1, early.tasks(draw + 1)))
    assert all(
        tasks == late_tasks for (_, tasks), late_tasks in zip(ahead, _all(late), strict=True)
    )


def _all(recorded):
    fresh = Curriculum(OF_ONE_SOURCE, 4, seed=0)
    return drawn(fresh, range(21))[1:]


def test_the_state_survives_json_and_gives_the_same_draws():
    whole = Curriculum(OF_ONE_SOURCE, 4, seed=3)
    expected = drawn(whole, range(12))[9:]
    first, second = Curriculum(OF_ONE_SOURCE, 4, seed=3), Curriculum(OF_ONE_SOURCE, 4, seed=3)
    drawn(first, range(9))
    saved = json.loads(json.dumps({"Curriculum": first.state()}))
    second.on_train_begin(None, SimpleNamespace(stateful_callbacks=saved), None)
    assert drawn(second, range(9, 12)) == expected


class TaskReward(CountingReward):
    """Teaches a curriculum, remembers the tasks, and fails once at a step."""

    def __init__(self, curriculum, fails_at=None):
        super().__init__([])
        self.curriculum, self.fails_at, self.tasks = curriculum, fails_at, []

    def __call__(self, completion_ids, task_id, draw, trainer_state, **columns):
        if trainer_state.global_step == self.fails_at:
            raise KeyboardInterrupt
        rewards = [r for task in task_id[::GROUP] for r in rewards_of(task)]
        self.curriculum.record(draw[0], task_id, rewards, GROUP)
        self.tasks.append(task_id[::GROUP])
        return rewards


def run(folder, recipe, fails_at=None):
    rows = [{"prompt": [{"role": "user", "content": name}], "task_id": name} for name in NAMES]
    config = grpo_config(recipe, recipe.policy.grpo, folder.checkpoints("policy"))
    curriculum = Curriculum(OF_ONE_SOURCE, recipe.policy.grpo.prompts_per_step, recipe.seed)
    reward = TaskReward(curriculum, fails_at)
    recorder = StepRecorder("policy", folder, lambda *values: None, PhaseClock())
    data = curriculum.dataset(rows, prompts_in_all(config))
    trainer = make_grpo_trainer(
        load_base(recipe.model), recipe, config, data, reward, recorder, [curriculum]
    )
    with contextlib.suppress(KeyboardInterrupt):
        train(trainer, folder.checkpoints("policy"))
    return reward.tasks


def test_a_killed_training_draws_the_same_tasks_when_it_goes_on(tmp_path):
    recipe = small_recipe(
        steps=6,
        save_every=2,
        max_completion_tokens=2,
        prompts_per_step=4,
        curriculum="spread",
        trainer={"per_device_train_batch_size": 8},  # two micro-batches per step
    )
    with RunFolder.open(tmp_path / "whole", recipe) as folder:
        whole = run(folder, recipe)
    with RunFolder.open(tmp_path / "killed", recipe) as folder:
        assert run(folder, recipe, fails_at=5) == whole[:5]
        assert run(folder, recipe) == whole[4:]
    assert len(whole) == 6 and all(len(set(tasks)) == 4 for tasks in whole)


def test_the_worked_examples_hold():
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_sources_of_unequal_size_are_drawn_from_in_equal_parts():
    sources = {f"small{n}": "small" for n in range(6)} | {f"big{n}": "big" for n in range(120)}
    curriculum = Curriculum(sources, 4, seed=0)
    counts = Counter(sources[task] for draw in range(300) for task in curriculum.tasks(draw))
    assert 0.4 < counts["small"] / counts.total() < 0.55  # below half: none is drawn twice at once
