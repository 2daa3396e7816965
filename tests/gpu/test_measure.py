"""The script for a GPU, run with tiny shapes on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="runs the real measurements on a GPU")
def test_the_script_leaves_the_results_of_every_part(tmp_path):
    script = Path(__file__).parent / "measure.sh"
    done = subprocess.run(
        ["bash", str(script), str(tmp_path / "out")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    parts = (tmp_path / "out" / "parts.txt").read_text().splitlines()
    assert [line.split()[:2] for line in parts] == [
        ["tests", "exit=0"],
        ["step-tiny", "exit=0"],
        ["decoding-tiny", "exit=0"],
    ]
    step = json.loads((tmp_path / "out" / "step-tiny.json").read_text())
    assert step["layouts"]["shared"]["seconds"]["judge"] > 0
    decoding = json.loads((tmp_path / "out" / "decoding-tiny.json").read_text())
    assert decoding["decode"]["tokens_per_s"] > 0
    assert "error" not in decoding["transformers"]
