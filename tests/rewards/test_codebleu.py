"""The exact CodeBLEU, and the error where it cannot be had."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.records import LANGUAGES, Task, Verdict
from seccoderx_lite.rewards import codebleu
from seccoderx_lite.rewards.codebleu import WEIGHTS, codebleu_score, require_codebleu
from seccoderx_lite.rewards.reward_formula import reward_parts

HAS_CODEBLEU = importlib.util.find_spec("codebleu") is not None
needs_codebleu = pytest.mark.skipif(not HAS_CODEBLEU, reason="needs the extra [codebleu]")
CODE = "def f(a):\n    b = a + 1\n    return b\n"
BRANCHES = """\
def f(a, b, c, d):
    x = y = z = e = 0
    if y < d:
        e = d + x
    else:
        y = y - c
    x = d + d * b
    while x < y:
        d = e + b + y
    x = b + y * c
    c = x + c * y
    if e < d:
        d = c + c
    else:
        c = c - b
    return x
"""
"""Scored 0.643 or 0.645 against SHUFFLED by the package, depending on the hash seed."""
SHUFFLED = """\
def f(a, b, c, d):
    x = y = z = e = 0
    while y < a:
        y = z + z + e
    while e < y:
        x = e + c + b
    if z < c:
        z = b + b
    else:
        x = x - z
    while x < x:
        z = x + z + y
    while d < c:
        d = d + d + a
    while a < x:
        y = a + x + x
    return x
"""
OTHER = "def f(a):\n    b = a * 2\n    print(b)\n    return b\n"


@pytest.mark.skipif(HAS_CODEBLEU, reason="needs an environment without the extra [codebleu]")
def test_without_the_package_the_error_names_the_extra():
    with pytest.raises(RecipeError, match=re.escape(install_command("codebleu"))):
        require_codebleu()
    with pytest.raises(RecipeError, match="codebleu"):
        reward_parts("```\nx\n```", Task("t", "p", "python", reference="x"), Verdict("safe"))


@needs_codebleu
def test_score_is_that_of_the_package_with_the_weights_of_the_original():
    from codebleu import calc_codebleu

    scores = calc_codebleu([CODE], [OTHER], lang="python", weights=(0.1, 0.1, 0.7, 0.1))
    assert codebleu_score(OTHER, CODE, "python") == scores["codebleu"]
    assert 0.0 < scores["codebleu"] < 1.0
    assert sum(WEIGHTS) == pytest.approx(1.0)


@needs_codebleu
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_works(language):
    assert codebleu_score("x = 1 ;", "x = 1 ;", language) > 0.9


@needs_codebleu
def test_code_that_makes_the_package_fail_scores_zero():
    assert codebleu_score("x = '\ud800'", "x = 1", "python") == 0.0


@needs_codebleu
def test_the_score_does_not_depend_on_the_hash_seed_of_the_process():
    program = (
        "from seccoderx_lite.rewards.codebleu import codebleu_score as score\n"
        f"print(score({SHUFFLED!r}, {BRANCHES!r}, 'python'))"
    )
    seeds = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    ]
    assert len(set(seeds)) == 1


@needs_codebleu
def test_a_helper_that_ended_is_started_again():
    before = codebleu_score(OTHER, CODE, "python")
    codebleu._HELPER._process.kill()
    codebleu._HELPER._process.wait()
    assert codebleu_score(OTHER, CODE, "python") == before


def test_a_process_that_ended_leaves_the_completion_unscored(monkeypatch):
    def ended(*arguments):
        raise codebleu.CodebleuEnded("the process of codebleu ended")

    monkeypatch.setattr(codebleu, "require_codebleu", lambda: None)
    monkeypatch.setattr(codebleu, "_calculate", ended)
    task = Task("t", "p", "python", ("CWE-89",), reference="x = 1")
    parts = reward_parts("```\nx = 1\n```", task, Verdict("safe"))
    assert (parts["similarity"], parts["reward"], parts["length"]) == (None, None, 1.0)
