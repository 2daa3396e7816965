"""Synthesis at size: tasks from SVEN, kills and resumes, and peak memory by number of seeds.

    python tests/benchmarks/synth.py tasks SVEN_FOLDER    # misbehaving server, 5 kills
    python tests/benchmarks/synth.py memory SVEN_FOLDER [--seeds 720 72000]

`memory` repeats the seeds with changed ids and a changed name in the code, so that none is left out
as a duplicate, and lets `answer` of the server reply in the process: only memory is measured.
"""

import argparse
import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.synthesis_server import answer, serving


def write_recipe(folder: Path, name: str, data: Path, generator: dict) -> Path:
    recipe = {"name": name, "seeds": {"data": str(data)}, "generator": generator}
    file = folder / f"{name}.json"
    file.write_text(json.dumps(recipe))
    return file


def command(recipe: Path) -> list[str]:
    return [sys.executable, "-m", "seccoderx_lite", "synth", str(recipe)]


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "dataset" / "tasks.jsonl").read_bytes()).hexdigest()[:16]


def tasks(data: Path, kills: int) -> None:
    """Make the set from a good server, from a bad one, and from a bad one with kills."""
    with tempfile.TemporaryDirectory() as place:
        folder, lines = Path(place), 0
        for name, share, killed in (("good", 0.0, 0), ("bad", 0.4, 0), ("killed", 0.4, kills)):
            with serving(share, hang_s=1.5) as server:
                generator = {
                    "endpoint": server.url,
                    "model": "played",
                    "timeout_s": 1.0,
                    "backoff_s": 0.02,
                    "concurrency": 16,
                }
                recipe = write_recipe(folder, name, data, generator)
                started = time.monotonic()
                run = folder / "runs" / name
                draw = random.Random(7)
                for at in sorted(draw.randrange(lines) for _ in range(killed)):
                    kill_at(at, command(recipe), folder, run)
                subprocess.run(command(recipe), cwd=folder, check=True)
                lines = count_lines(run)
                summary = json.loads((run / "stages.json").read_text())["flatten"]
                twice = sum(count > 1 for count in server.delivered.values())
                print(
                    f"{name}: {summary['tasks']} tasks, sha256 {digest(run)}, "
                    f"{time.monotonic() - started:.0f} s, {sum(server.asked.values())} requests "
                    f"with {sum(server.faults.values())} faults {dict(server.faults)}, "
                    f"{twice} prompts delivered twice, usage {summary['usage']}\n"
                    f"  {summary['per_language']} {summary['per_cwe']} {summary['per_split']}\n"
                    f"  dropped {summary['dropped']}",
                    flush=True,
                )


def count_lines(run: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in run.glob("*.jsonl"))


def kill_at(lines: int, given: list[str], folder: Path, run: Path) -> None:
    """Start a synthesis and kill it once its stages have written that many lines."""
    process = subprocess.Popen(given, cwd=folder, stderr=subprocess.DEVNULL)
    while process.poll() is None and count_lines(run) <= lines:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stages = {file.stem: file.read_bytes().count(b"\n") for file in run.glob("*.jsonl")}
    print(f"killed at {lines} lines: {stages}", flush=True)


def memory(data: Path, counts: list[int]) -> None:
    """Tell the peak memory of one process for each number of seeds."""
    for count in counts:
        subprocess.run(
            [sys.executable, __file__, "one", str(data), "--seeds", str(count)], check=True
        )


def one(data: Path, count: int) -> None:
    from seccoderx_lite.data.loading import iter_vulnerable
    from seccoderx_lite.data.synthesis import context, sources
    from seccoderx_lite.recipe.synth import SynthRecipe
    from seccoderx_lite.stages import synth

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = folder / "seeds.jsonl"
        repeat(data, rows, count, iter_vulnerable)
        recipe = SynthRecipe.model_validate(
            {
                "name": "memory",
                "seeds": {"data": str(rows)},
                "generator": {"model": "played"},
            }
        )
        context.open_source = lambda *_: sources.RuleSource(
            lambda prompt: json.dumps(answer(prompt))
        )
        peaks, started = Counter(), time.monotonic()

        def progress(stage, step, total, values):
            peaks[stage] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

        synth.run(recipe, folder / "run", progress=progress)
        summary = json.loads((folder / "run" / "stages.json").read_text())["flatten"]
        print(
            f"{count} seeds: {summary['tasks']} tasks, peak {max(peaks.values())} MB, "
            f"{time.monotonic() - started:.0f} s; peak at the end of each stage {dict(peaks)}",
            flush=True,
        )


def repeat(data: Path, target: Path, count: int, read) -> None:
    with target.open("w") as file:
        written = number = 0
        while written < count:
            number += 1
            for _, code in read(data, None, lambda place, reason: None):
                if written == count:
                    break
                text = f"{code.code}\nint copy_{number};" if number > 1 else code.code
                row = {
                    "id": f"s{written}",
                    "code": text,
                    "language": code.language,
                    "cwe": code.cwe[0],
                }
                file.write(json.dumps(row) + "\n")
                written += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("tasks", "memory", "one"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[720, 72_000])
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    if given.what == "tasks":
        tasks(given.data, given.kills)
    elif given.what == "memory":
        memory(given.data, given.seeds)
    else:
        one(given.data, given.seeds[0])


if __name__ == "__main__":
    main()
