"""What model hubs read of a card, parsed by the hub's own library."""

import pytest
from huggingface_hub import ModelCard

from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.recipe.results import Format
from seccoderx_lite.reporting import card_metadata
from seccoderx_lite.reporting.model_card import model_card
from seccoderx_lite.run.folder import RunFolder

CARD = "---\n{}\n---\n# A base\n"
LINK = "https://example.org/licence"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(card_metadata, "is_hub_reachable", lambda: False)


@pytest.fixture
def parsed(tmp_path):
    """Make a run folder from sections of a recipe; return the parsed card of its export."""

    def make(sections=None, *, form: Format = "merged", role="policy", evaluation=None):
        document = {
            "name": "x",
            "model": {"base": "builtin:tiny"},
            "export": {},
            **(sections or {}),
        }
        recipe = check_recipe(document, "x")
        with RunFolder.open(tmp_path / "run", recipe) as folder:
            if evaluation:
                folder.write_json("evaluation.json", evaluation)
            return ModelCard(model_card(recipe, folder, form, role)).data

    return make


def policy(tasks):
    return {"policy": {"tasks": tasks, "reward": {"judge": False}, "grpo": {"steps": 1}}}


@pytest.mark.parametrize(
    ("form", "library", "relation"),
    [
        ("adapter", "peft", "adapter"),
        ("merged", "transformers", "finetune"),
        ("gguf", "gguf", "finetune"),
        ("gguf-q4_k_m", "gguf", "finetune"),
    ],
)
def test_a_card_has_what_a_hub_lists_models_by(parsed, form, library, relation):
    data = parsed({"model": {"base": "org/model"}}, form=form)
    assert data.base_model == "org/model" and data.base_model_relation == relation
    assert data.library_name == library
    assert data.pipeline_tag == "text-generation"
    assert {"code", "security"} <= set(data.tags)


def test_a_base_that_is_a_folder_is_not_named_as_one_of_the_hub(parsed, tmp_path, monkeypatch):
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    data = parsed({"model": {"base": "org/model"}})
    assert data.base_model is None and "base_model_relation" not in data.to_dict()


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("license: apache-2.0", {"license": "apache-2.0"}),
        (
            f"license: other\nlicense_name: research\nlicense_link: {LINK}",
            {"license": "other", "license_name": "research", "license_link": LINK},
        ),
        ("tags: [code]", {}),
        ("license: [", {}),
        (None, {}),
    ],
)
def test_the_licence_is_that_of_the_base_where_its_card_names_one(parsed, tmp_path, card, expected):
    base = tmp_path / "base"
    base.mkdir()
    if card:
        (base / "README.md").write_text(CARD.format(card))
    found = parsed({"model": {"base": str(base)}}).to_dict()
    assert {key: value for key, value in found.items() if key.startswith("license")} == expected


def test_the_tiny_base_has_the_licence_of_the_package(parsed):
    assert parsed().license == "mit"


def test_a_hub_that_cannot_be_asked_costs_only_the_licence(parsed, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no route")

    monkeypatch.setattr(card_metadata, "is_hub_reachable", lambda: True)
    monkeypatch.setattr(card_metadata.ModelCard, "load", refuse)
    data = parsed({"model": {"base": "org/model"}})
    assert data.license is None and data.base_model == "org/model"


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ("org/tasks", ["org/tasks"]),
        (["org/tasks", "./mine.jsonl", "builtin:tiny", "org/more"], ["org/tasks", "org/more"]),
        ("builtin:tiny", None),
    ],
)
def test_only_training_data_of_the_hub_is_named_as_a_dataset(parsed, tasks, expected):
    assert parsed(policy(tasks)).datasets == expected


def test_a_policy_names_the_data_of_its_warm_start_too(parsed):
    sections = policy("org/tasks")
    sections["policy"]["warm_start"] = {"data": ["org/solved", "org/tasks"], "steps": 1}
    assert parsed(sections).datasets == ["org/solved", "org/tasks"]


def test_a_judge_names_the_data_of_its_stages_once(parsed):
    steps = {"steps": 1}
    judge = {
        "cold_start": {"data": ["org/code", "org/more"], **steps},
        "align": {"data": "org/code", **steps},
    }
    assert parsed({"judge": judge}, role="judge").datasets == ["org/code", "org/more"]


def test_the_scores_after_training_are_in_the_model_index(parsed):
    scores = {"functional": 0.95, "secure": 0.9, "esr": 0.88123, "n": 40}
    benign = {"functional": 1.0, "n": 24}
    data = parsed(
        evaluation={
            "before": {"tiny/new": {**scores, "esr": 0.1}},
            "after": {"tiny/new": scores, "tiny/benign": benign},
        }
    )
    assert data.model_name == "x"
    found = {(one.dataset_type, one.metric_type): one.metric_value for one in data.eval_results}
    assert found == {
        ("tiny/new", "functional"): 0.95,
        ("tiny/new", "secure"): 0.9,
        ("tiny/new", "esr"): 0.8812,
        ("tiny/benign", "functional"): 1.0,
    }


def test_a_run_without_evaluation_has_no_model_index(parsed):
    assert parsed().eval_results is None
