"""The public names, and that importing them loads no heavy package."""

import subprocess
import sys

import seccoderx_lite

PUBLIC = [
    "Judge",
    "Limits",
    "Recipe",
    "Sandbox",
    "SeccoderxError",
    "extract_code",
    "load_labelled",
    "load_recipe",
    "load_tasks",
    "parse_verdict",
    "reward_parts",
    "scan",
    "train",
]


def test_the_public_names_are_these_and_all_resolve():
    assert seccoderx_lite.__all__ == PUBLIC
    assert all(callable(getattr(seccoderx_lite, name)) for name in PUBLIC)


def test_importing_the_package_and_its_command_line_loads_no_torch():
    script = (
        "import sys, seccoderx_lite, seccoderx_lite.cli.app, seccoderx_lite.judge.prompt, "
        "seccoderx_lite.rewards.reward_formula, seccoderx_lite.sandbox, "
        "seccoderx_lite.evaluation.metrics, seccoderx_lite.recipe.recipe, "
        "seccoderx_lite.data.loading, seccoderx_lite.judge.judge;"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets'} & sys.modules.keys();"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
