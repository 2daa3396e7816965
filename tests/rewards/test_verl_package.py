"""verl's own loader, reward managers and Ray workers call the reward; skipped without verl."""

import asyncio
import json
from importlib.util import find_spec
from pathlib import Path

import numpy
import pytest
from helpers.chat_server import chat_reply, server

import seccoderx_lite.rewards.verl as adapter

pytestmark = pytest.mark.skipif(
    find_spec("verl") is None or find_spec("ray") is None, reason="verl is not installed"
)
CODES = ["def run(text):\n    return int(text)", "def run(text):\n    return eval(text)"]
COLUMNS = {"language": "python", "cwe": ["CWE-95"], "reference": CODES[0]}


class WordTokenizer:
    """Tokens are places in a list of texts."""

    def __init__(self, texts):
        self.texts = texts

    def decode(self, ids, skip_special_tokens=True):
        return self.texts[int(ids[0])]


def judged(body):
    verdict = "Vulnerable" if "eval(" in body["messages"][0]["content"] else "Not Vulnerable"
    return chat_reply(f"<think>looked</think><answer>{verdict}</answer>")


def config(url, folder, manager):
    from omegaconf import OmegaConf

    recipe = folder / "reward.yaml"
    recipe.write_text(
        "name: reward\nmodel: {base: unused}\npolicy: {tasks: unused}\n"
        f"judge: {{endpoint: {{url: {json.dumps(url)}, model: judge, timeout_s: 20.0}}}}\n"
        "sandbox: {isolation: limits-only, workers: 1}\n"
    )
    function = {
        "path": str(Path(adapter.__file__)),
        "name": "compute_score",
        "reward_kwargs": {"recipe": str(recipe)},
    }
    reward = {
        "custom_reward_function": function,
        "reward_manager": {"source": "register", "name": manager},
        "num_workers": 2,
    }
    return OmegaConf.create({"reward": reward})


def batch(count):
    import torch
    from verl import DataProto

    tensors = {
        "responses": torch.arange(count)[:, None].repeat(1, 2),
        "prompts": torch.zeros(count, 2, dtype=torch.long),
        "attention_mask": torch.ones(count, 4, dtype=torch.long),
    }
    columns = {
        "data_source": ["own"] * count,
        "reward_model": [{"ground_truth": ""}] * count,
        "extra_info": [dict(COLUMNS, id=str(n)) for n in range(count)],
    }
    arrays = {name: numpy.array(values, dtype=object) for name, values in columns.items()}
    return DataProto.from_dict(tensors=tensors, non_tensors=arrays)


@pytest.mark.parametrize("manager", ["naive", "remote"])
def test_verl_scores_64_responses_itself_with_threads_or_two_ray_workers(tmp_path, manager):
    import ray
    from verl.trainer.ppo.reward import load_reward_manager

    texts = [f"Number {n}:\n```python\n{CODES[n % 2]}\n```" for n in range(64)]
    if manager == "remote":
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with server(judged) as (url, requests):

            async def score():
                made = load_reward_manager(config(url, tmp_path, manager), WordTokenizer(texts))
                data = batch(64)
                return await asyncio.gather(*(made.run_single(data[n : n + 1]) for n in range(64)))

            results = asyncio.run(score())
    finally:
        if manager == "remote":
            ray.shutdown()
    scores = [result["reward_score"] for result in results]
    assert set(scores[::2]) == {max(scores)} and set(scores[1::2]) == {min(scores)}
    assert max(scores) > min(scores)
    assert all(result["reward_extra_info"]["unscored"] == 0.0 for result in results)
    assert len(requests) <= 4  # equal code is judged once per process
