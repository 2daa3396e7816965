"""Held-out tasks during training: which ones, what they score, what is kept and when it ends."""

import json
from types import SimpleNamespace

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Task
from seccoderx_lite.evaluation.held_out import (
    HeldOutTasks,
    Measurement,
    best_step,
    gains_no_more,
    hold_out,
    measurements_of,
)
from seccoderx_lite.evaluation.held_out_watch import HeldOutWatch
from seccoderx_lite.evaluation.metrics import SampleScore, TaskScores
from seccoderx_lite.recipe.recipe import HeldOutRecipe, PolicyRecipe, check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.sandbox import Sandbox

BOTH = {
    "kind": "calls",
    "entry_point": "half",
    "functionality": [{"args": [4], "expect": 2}, {"args": [6], "expect": 3}],
    "security": [{"args": ["x"], "raises": "TypeError"}],
}
WORKS = {key: value for key, value in BOTH.items() if key != "security"}


def row(number, tests=BOTH, **columns):
    return {
        "id": f"t{number}",
        "prompt": f"Write function {number}.",
        "language": "python",
        "cwe": ["CWE-20"] if tests and "security" in tests else [],
        "tests": tests,
        **columns,
    }


def source(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def policy(tasks="t.jsonl", **fields):
    return PolicyRecipe(tasks=tasks, **{"held_out": {}, **fields})


def tasks_of(rows):
    return [Task(r["id"], r["prompt"], "python", tests=r["tests"]) for r in rows]


def names(tasks):
    return [task.id for task in tasks]


def test_the_split_validation_is_held_out_and_nothing_is_taken_from_training(tmp_path):
    rows = [row(n, split="validation" if n < 3 else "train") for n in range(9)]
    chosen, kept = hold_out(policy(source(tmp_path / "t.jsonl", *rows)), tasks_of(rows[3:]), seed=0)
    assert sorted(names(chosen)) == ["t0", "t1", "t2"]
    assert names(kept) == [f"t{n}" for n in range(3, 9)]


def test_without_a_split_at_most_a_fifth_is_held_out_and_not_trained_on(tmp_path):
    rows = [row(n) for n in range(11)]
    file = source(tmp_path / "t.jsonl", *rows)
    chosen, kept = hold_out(policy(file), tasks_of(rows), seed=0)
    assert len(chosen) == 2 and len(kept) == 9
    assert not {*names(chosen)} & {*names(kept)}
    assert names(hold_out(policy(file), tasks_of(rows), seed=0)[0]) == names(chosen)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_sample_has_tasks_of_both_kinds(tmp_path, seed):
    rows = [row(n, BOTH if n < 2 else WORKS) for n in range(20)]
    file = source(tmp_path / "t.jsonl", *rows)
    chosen, _ = hold_out(policy(file, keep="best"), tasks_of(rows), seed=seed)
    assert len(chosen) == 4 and sum(task.id in ("t0", "t1") for task in chosen) == 1


def test_a_task_with_the_prompt_of_a_held_out_one_is_not_trained_on(tmp_path):
    rows = [row(n) for n in range(4)]
    held_out = source(tmp_path / "h.jsonl", {**rows[1], "id": "other"})
    chosen, kept = hold_out(policy(held_out={"tasks": held_out}), tasks_of(rows), seed=0)
    assert names(chosen) == ["other"] and names(kept) == ["t0", "t2", "t3"]


def test_no_measurement_holds_nothing_out():
    training = tasks_of([row(1)])
    assert hold_out(policy(held_out=None), training, seed=0) == ([], training)


def test_keeping_the_best_measures_with_the_defaults():
    assert policy(held_out=None, keep="best").measures == HeldOutRecipe()
    assert policy(held_out=None).measures is None


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([row(n, tests=None) for n in range(10)], {}, r"too few tasks with functional tests"),
        ([row(n) for n in range(4)], {}, r"no split validation, and too few .* \(one in 5"),
        ([row(n, split="train") for n in range(9)], {"tasks": True}, r"outside the split train"),
        (
            [row(n, WORKS) for n in range(10)],
            {"keep": "best"},
            r"none of the 2 held-out .* has security tests, so they have no ESR",
        ),
    ],
)
def test_held_out_tasks_that_cannot_measure_are_refused(tmp_path, rows, fields, message):
    file = source(tmp_path / "t.jsonl", *rows)
    held_out = {"tasks": file} if fields.pop("tasks", None) else {}
    with pytest.raises(DataError, match=message):
        hold_out(policy(file, held_out=held_out, **fields), tasks_of(rows), seed=0)


def test_a_source_with_all_training_tasks_is_refused(tmp_path):
    rows = [row(n) for n in range(3)]
    with pytest.raises(DataError, match="has all training tasks"):
        file = source(tmp_path / "h.jsonl", *rows)
        hold_out(policy(held_out={"tasks": file}), tasks_of(rows), seed=0)


def measured(step, esr, functional=1.0, tasks=10):
    """A measurement of tasks that are secure for a share of ESR and work for another."""
    each = [SampleScore(functional, float(n < round(esr * tasks))) for n in range(tasks)]
    return Measurement(step, tuple(TaskScores(str(n), (), (s,)) for n, s in enumerate(each)))


LOST = Measurement(9, (TaskScores("0", (), (None,)),))


@pytest.mark.parametrize(
    ("measurements", "best"),
    [
        ([measured(0, 0.4), measured(5, 0.9), measured(10, 0.7)], 5),
        ([measured(0, 0.4), measured(5, 0.9, 0.8), measured(10, 0.6, 0.99)], 10),
        ([measured(0, 0.4), measured(5, 0.9, 0.5)], 0),
        ([measured(0, 0.4), measured(5, 0.4), measured(10, 0.4)], 10),
        ([measured(0, 0.4), LOST], 0),
        ([LOST], None),
    ],
)
def test_the_best_has_most_esr_among_those_that_still_work(measurements, best):
    assert best_step(measurements, max_functional_drop=0.02) == best


@pytest.mark.parametrize(
    ("rates", "settings", "ends"),
    [
        ([0.9, 0.9, 0.9, 0.9], {"min_gain": 0.05, "window": 2}, True),
        ([0.2, 0.4, 0.7, 0.9], {"min_gain": 0.05, "window": 2}, False),
        ([0.9, 0.9, 0.9], {"min_gain": 0.05, "window": 2}, False),
        ([0.9, 0.9, 0.9, 0.9], {"window": 2}, False),
        ([0.9, 0.8, 0.5, 0.3], {"min_gain": 0.05, "window": 2}, True),
    ],
)
def test_training_ends_when_the_interval_of_the_gain_is_below_the_threshold(rates, settings, ends):
    measurements = [measured(0, 0.1), *(measured(n, r) for n, r in enumerate(rates, start=1))]
    assert gains_no_more(measurements, HeldOutRecipe(**settings), seed=0) is ends


class Scripted:
    """Completes prompts with what it is given, in turn."""

    def __init__(self, *texts):
        self.texts = texts

    def generate(self, prompts, *, max_new_tokens, temperature):
        return list(self.texts[: len(prompts)])


def block(code):
    return f"```python\n{code}\n```"


GOOD = block("def half(x):\n    return x // 2")
UNSAFE = block("def half(x):\n    return x // 2 if x != 'x' else 1")
WRONG = block("def half(x):\n    return x - 2")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox("limits-only", workers=1) as opened:
        yield opened


def test_completions_are_tested_and_what_failed_to_be_made_is_unscored(sandbox):
    tasks = tuple(tasks_of([row(n) for n in range(5)]))
    generator = Scripted(GOOD, UNSAFE, WRONG, "I cannot help.", None)
    (result,) = measurements_of(HeldOutTasks(tasks, generator, sandbox, 1, 9, 1.0).solve(7))
    # WRONG passes one of two functional tests, and the security test: "x" - 2 is a TypeError.
    assert [task.mean("functional") for task in result.tasks] == [1.0, 1.0, 0.5, 0.0, None]
    assert [task.mean("esr") for task in result.tasks] == [1.0, 0.0, 0.5, 0.0, None]
    assert result.as_metrics() == {
        "held_out_esr": 1.5 / 4,
        "held_out_functional": 2.5 / 4,
        "held_out_secure": 2 / 4,
        "held_out_unscored": 1,
    }


def test_a_task_without_security_tests_counts_for_function_alone(sandbox):
    tasks = tuple(tasks_of([row(0), row(1, WORKS)]))
    (result,) = measurements_of(
        HeldOutTasks(tasks, Scripted(UNSAFE, WRONG), sandbox, 1, 9, 1.0).solve(0)
    )
    assert (result.esr, result.functional) == (0.0, 0.75)


class Measured:
    """Held-out tasks whose ESR at each step is given."""

    def __init__(self, **rates):
        self.rates = {int(step[1:]): rate for step, rate in rates.items()}

    def solve(self, step, share):
        return [
            {"stage": "policy", "step": step, "task": task.id, "completion": "", **score}
            for task in measured(step, self.rates[step]).tasks
            for score in [{"functional": 1.0, "secure": task.mean("secure")}]
        ]


@pytest.fixture
def watched(tmp_path):
    """Make a watch over measurements, and drive it through steps as a trainer does."""

    def make(rates, **held_out):
        document = {
            "name": "x",
            "model": {"base": "b"},
            "policy": {
                "tasks": "t",
                "reward": {"judge": False},
                "keep": "best",
                "held_out": held_out,
            },
        }
        recipe = check_recipe(document, "x")

        def save(target):
            target.mkdir(parents=True)
            (target / "weights").write_text(target.name)

        with RunFolder.open(tmp_path / "run", recipe) as folder:
            return HeldOutWatch(Measured(**rates), recipe, folder, save, lambda: None), folder

    return make


def drive(watch, *steps, last=100, saves=()):
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    state = SimpleNamespace(global_step=steps[0], max_steps=last)
    watch.on_train_begin(None, state, control)
    for step in steps[1:]:
        state.global_step = step
        watch.on_step_end(None, state, control)
        if step in saves:
            watch.on_save(None, state, control)
        if control.should_training_stop:
            return step
    return None


def test_the_best_checkpoint_is_kept_whatever_came_after_it(watched, tmp_path):
    watch, folder = watched({"s0": 0.3, "s2": 0.9, "s4": 0.5, "s5": 0.4}, every=2)
    drive(watch, 0, 1, 2, 3, 4, 5, last=5, saves=[4])
    assert [row["step"] for row in folder.read_jsonl("held_out.jsonl")][::10] == [0, 2, 4, 5]
    assert [f.name for f in folder.policy_candidates.iterdir()] == ["step-2"]
    assert watch.keep_best(tmp_path / "kept") == 2
    assert (tmp_path / "kept" / "weights").read_text() == "step-2"
    assert watch.step_values(4)["held_out_esr"] == 0.5 and watch.step_values(3) == {}


def test_the_start_is_recorded_before_the_first_step(watched):
    watch, folder = watched({"s0": 0.3}, every=2)
    drive(watch, 0)
    (record,) = folder.read_jsonl("metrics.jsonl")
    assert record["step"] == 0 and record["held_out_esr"] == 0.3


def test_a_resumed_run_goes_on_with_the_measurements_of_its_checkpoint(watched, tmp_path):
    watch, _ = watched({"s0": 0.3, "s2": 0.9, "s4": 0.7}, every=2)
    drive(watch, 0, 1, 2, 3, 4)
    again, _ = watched({"s4": 0.8}, every=2)
    drive(again, 2, 3, 4)  # from the checkpoint of step 2: what step 4 measured is forgotten
    assert [one.esr for one in again._measured] == [0.3, 0.9, 0.8]
    assert again.keep_best(tmp_path / "kept") == 2


def test_training_ends_early_with_a_checkpoint(watched):
    watch, _ = watched(
        {"s0": 0.1, "s1": 0.5, "s2": 0.9, "s3": 0.9}, every=1, window=1, min_gain=0.05
    )
    assert drive(watch, 0, 1, 2, 3, 4) == 3
    assert watch.has_ended_early
