"""Terms of one's own: loading, gates, batch form, and what becomes of their failures."""

import logging
import re
from pathlib import Path

import pytest
import yaml
from rewards.test_scorer import CODE, GOOD, TASK, WRONG, FakeGenerator, scorer

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Task, Verdict
from seccoderx_lite.recipe.recipe import check_recipe, load_recipe
from seccoderx_lite.reporting.training_curves import training_sections
from seccoderx_lite.rewards import terms as module
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.rewards.terms import loaded_terms
from seccoderx_lite.training.policy_reward import _means

ROOT = Path(__file__).parents[2]
REFUSAL = "I cannot help with that."
VULNERABLE = "<think>bad</think><answer>Vulnerable</answer>"

TERMS = """
import math

def one(completion, task, evidence):
    return 1.0

def nothing(completion, task, evidence):
    return None

def breaks(completion, task, evidence):
    return {}["no such key"]

def nan(completion, task, evidence):
    return math.nan

def text(completion, task, evidence):
    return "0.5"

def lengths(completions, tasks, evidence):
    return [len(each.code) for each in evidence]

def too_few(completions, tasks, evidence):
    return [1.0]

def seen(completion, task, evidence):
    assert evidence.tests.is_functional and evidence.verdict.label == "safe"
    assert task.id == "t" and evidence.code in completion
    return evidence.parts["similarity"]
"""


@pytest.fixture
def term(tmp_path):
    """Make a term of a function in a file."""
    file = tmp_path / "my_rewards.py"
    file.write_text(TERMS)
    return lambda name, **fields: {"function": f"{file}:{name}", **fields}


def rewards(given, *completions, **options):
    scored = scorer(terms=[given], **options).score([TASK] * len(completions), list(completions))
    return [item.reward for item in scored]


def test_a_term_adds_its_weighted_value_to_the_reward(term):
    assert rewards(term("one", weight=0.5), GOOD) == [pytest.approx(7.0)]
    assert rewards(term("one", weight=-2), GOOD) == [pytest.approx(4.5)]
    assert rewards(term("seen"), GOOD) == [pytest.approx(7.5)]


@pytest.mark.parametrize(
    ("gate", "paid"),
    [
        ("none", [True, True, True]),
        ("code", [True, True, False]),
        ("works", [True, False, False]),
        ("safe", [True, False, False]),
    ],
)
def test_a_gate_decides_which_completions_get_the_term(term, gate, paid):
    plain = [item.reward for item in scorer().score([TASK] * 3, [GOOD, WRONG, REFUSAL])]
    with_term = rewards(term("one", gate=gate), GOOD, WRONG, REFUSAL)
    gains = [more - before for more, before in zip(with_term, plain, strict=True)]
    assert gains == pytest.approx([float(each) for each in paid])


def test_the_gate_safe_is_closed_to_code_that_the_judge_calls_vulnerable(term):
    generator = FakeGenerator(VULNERABLE)
    plain = scorer(generator=generator).score([TASK], [GOOD])[0].reward
    assert rewards(term("one", gate="safe"), GOOD, generator=generator) == [plain]
    assert rewards(term("one", gate="works"), GOOD, generator=generator) == [plain + 1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "nothing had no value"),
        ("breaks", "breaks failed with KeyError: 'no such key'"),
        ("nan", "nan returned nan, which is not a finite number"),
        ("text", "text returned '0.5', which is not a finite number"),
    ],
)
def test_a_term_that_fails_leaves_the_completion_unscored_under_its_name(
    term, name, reason, caplog
):
    with caplog.at_level(logging.WARNING):
        scored = scorer(terms=[term(name)]).score([TASK] * 2, [GOOD, WRONG])
    # The gate is closed to code that does not work, so the term was not asked about it.
    assert [item.reward is None for item in scored] == [True, False]
    assert reason in caplog.text and "1 completions are unscored" in caplog.text
    metrics = _means(scored)
    assert metrics[f"reward/{name}_failed"] == 0.5 and metrics["unscored"] == 1


def test_a_batch_function_sees_all_completions_at_once(term, caplog):
    given = term("lengths", batch=True, gate="none", weight=0.01)
    plain = [item.reward for item in scorer().score([TASK] * 3, [GOOD, WRONG, GOOD])]
    found = rewards(given, GOOD, WRONG, GOOD)
    gains = [more - before for more, before in zip(found, plain, strict=True)]
    assert gains == pytest.approx([len(CODE) / 100] * 3)
    assert rewards(term("too_few", batch=True, gate="none"), GOOD, WRONG) == [None, None]
    assert "too_few returned 1 values for 2" in caplog.text


def test_terms_are_parts_in_metrics_and_report(term):
    scored = scorer(terms=[term("one")]).score([TASK], [GOOD])
    metrics = _means(scored)
    assert metrics["reward/one"] == 1.0
    rows = [{"stage": "policy", "step": n, **metrics} for n in (1, 2)]
    text = "".join(str(section.body) for section in training_sections(rows, [], 1))
    assert re.search(r"\bone\b", text)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no.py:one", r"there is no file .*no\.py; a path is relative to the recipe"),
        ("{file}:none", r"has no function none \(it has: breaks, "),
        ("no_such_module_:one", r"no_such_module_ cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_an_error_before_training(tmp_path, place, message):
    (tmp_path / "my_rewards.py").write_text(TERMS)
    place = place.format(file=tmp_path / "my_rewards.py")
    recipe = recipe_of({"terms": [{"function": place}]})
    with pytest.raises(RecipeError, match=message):
        loaded_terms(recipe.policy.reward.terms)


def test_a_file_that_breaks_when_it_is_loaded_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0")
    recipe = recipe_of({"terms": [{"function": f"{tmp_path}/bad.py:one"}]})
    with pytest.raises(RecipeError, match=r"bad\.py cannot be loaded: ZeroDivisionError"):
        loaded_terms(recipe.policy.reward.terms)


def recipe_of(reward):
    document = {
        "name": "x",
        "model": {"base": "b"},
        "policy": {"tasks": "t", "reward": {"judge": False, **reward}},
    }
    return check_recipe(document, "x")


ONE = {"function": "m.py:one"}


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"terms": [{}]}, r"terms\.0\.function: give exactly one of function and analyser"),
        ({"terms": [{**ONE, "analyser": "bandit"}]}, r"terms\.0\.function: give exactly one"),
        ({"terms": [{"function": "short"}]}, r"must be FILE\.py:NAME or .* \(got 'short'\)"),
        ({"terms": [{**ONE, "wieght": 1.0}]}, r"terms\.0\.wieght: .*did you mean .*weight"),
        ({"terms": [{**ONE, "weight": 0.0}]}, r"terms\.0\.weight: must not be 0"),
        ({"terms": [{"analyser": "pylint"}]}, r"terms\.0\.analyser: must be one of 'bandit'"),
        ({"terms": [ONE, ONE]}, r"terms\.1\.name: 'one' is already the name of a part"),
        ({"terms": [{**ONE, "name": "length"}]}, r"terms\.0\.name: 'length' is already"),
        ({"terms": [{**ONE, "gate": "safe"}]}, r"terms\.0\.gate: safe needs the judge"),
        ({"terms": [{"analyser": "bandit", "batch": True}]}, r"terms\.0\.batch: is for a function"),
    ],
)
def test_a_wrong_term_is_refused_by_name(reward, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(reward)


def test_the_formula_of_seccoderx_has_no_other_terms():
    with pytest.raises(RecipeError, match=r"terms: must be empty with formula seccoderx"):
        document = {
            "name": "x",
            "model": {"base": "b"},
            "judge": {"base": "b"},
            "policy": {"tasks": "t", "reward": {"formula": "seccoderx", "terms": [ONE]}},
        }
        check_recipe(document, "x")


class FakeAnalyser:
    """Finds a weakness in code with `eval`, and cannot read code with `???`."""

    def __init__(self, name):
        self.name = name

    def verdicts(self, items):
        return [
            Verdict(None, error="cannot be read")
            if "???" in item.code
            else Verdict("vulnerable" if "eval" in item.code else "safe")
            for item in items
        ]


def test_an_analyser_pays_code_without_the_tasks_weakness(monkeypatch, caplog):
    monkeypatch.setattr(module, "Analyser", FakeAnalyser)
    module._loaded.cache_clear()
    block = "```python\n{}\n```"
    codes = [
        "def f(x):\n    return x",
        "def f(x):\n    return eval(x)",
        "def f(x):\n    return x + '???'",
    ]
    given = {"analyser": "semgrep", "weight": 3.0, "gate": "code"}
    made = scorer(terms=[given], judge=False)
    scored = made.score([TASK] * 3, [block.format(code) for code in codes])
    assert [item.parts["semgrep"] for item in scored] == [1.0, 0.0, None]
    assert [item.reward is None for item in scored] == [False, False, True]
    assert "semgrep failed with cannot be read" in caplog.text
    benign = Task("b", "Write f.", "python")
    (scored,) = made.score([benign], [block.format(codes[1])])
    assert scored.parts["semgrep"] == 1.0
    module._loaded.cache_clear()


def test_bandit_as_a_term_finds_a_shell_command():
    pytest.importorskip("bandit", reason="the extra `analysers`")
    task = Task("t", "Run it.", "python", ("CWE-78",))
    unsafe = (
        "```python\nimport os\n\ndef run(name):\n    os.system('ls ' + name)\n    return name\n```"
    )
    safe = "```python\ndef run(name):\n    return name.upper()\n```"
    made = scorer(terms=[{"analyser": "bandit", "gate": "code"}], judge=False)
    scored = made.score([task, task], [unsafe, safe])
    assert [item.parts["bandit"] for item in scored] == [0.0, 1.0]


EXAMPLE = re.compile(
    r"<!-- reward term: (\S+) -->\n```python\n(.*?)```\n```yaml\n(.*?)```", re.DOTALL
)


@pytest.mark.parametrize("page", ["README.md", "seccoderx_lite/rewards/README.md"])
def test_the_terms_of_the_documentation_work(tmp_path, page):
    ((name, code, section),) = EXAMPLE.findall((ROOT / page).read_text())
    (tmp_path / name).write_text(code)
    document = {
        "name": "x",
        "model": {"base": "b"},
        "judge": {"base": "b"},
        **yaml.safe_load(section),
    }
    document["policy"]["tasks"] = "t"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    recipe = load_recipe(tmp_path / "recipe.yaml").policy.reward
    base = scorer()
    scored = Scorer(recipe, base.judge, base.sandbox).score([TASK] * 2, [GOOD, WRONG])
    plain = base.score([TASK] * 2, [GOOD, WRONG])
    assert all(item.reward is not None for item in scored)
    assert [item.reward for item in scored] != [item.reward for item in plain] or "doc" in section


def test_the_term_of_the_readme_has_six_lines():
    ((_, code, _),) = EXAMPLE.findall((ROOT / "README.md").read_text())
    assert len(code.strip().splitlines()) <= 6
