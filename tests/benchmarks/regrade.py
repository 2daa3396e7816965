"""How fast stored answers are graded again, and how much memory that takes.

    python tests/benchmarks/regrade.py [ANSWERS]

Writes ANSWERS answers (default: 10,000) of builtin:tiny, all different per task, and grades them
on all cores. Nothing is generated. Then the sandbox alone runs the same tests, without reading,
extracting or writing; the difference is the overhead of regrading.
"""

import sys
import tempfile
import time
from pathlib import Path

from seccoderx_lite.core.code_blocks import extract_code
from seccoderx_lite.evaluation.suites.answers import ANSWERS, regrade
from seccoderx_lite.evaluation.suites.loading import load_suites, make_graders
from seccoderx_lite.evaluation.suites.summary import summarise
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import report


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def write_answers(folder: RunFolder, suites, count: int) -> None:
    tasks = [(suite, task) for suite in suites for task in suite.tasks if task.source.reference]
    for number in range(count):
        suite, task = tasks[number % len(tasks)]
        code = f"{task.source.reference}\n\nNUMBER = {number}"
        folder.append_jsonl(
            ANSWERS,
            {
                "phase": "before" if number % 2 else "after",
                "suite": suite.name,
                "task": task.id,
                "cwe": list(task.cwe),
                "language": task.language,
                "prompt": task.prompt,
                "sample": number // len(tasks),
                "completion": f"```python\n{code}\n```",
                "score": None,
                "status": "",
                "output": "",
            },
        )


def seconds_in_the_sandbox_alone(folder: RunFolder, suites, sandbox: Sandbox) -> float:
    tasks = {(suite.name, task.id): task.source for suite in suites for task in suite.tasks}
    jobs = [
        (extract_code(row["completion"]), tasks[row["suite"], row["task"]])
        for row in folder.read_jsonl(ANSWERS)
    ]
    started = time.perf_counter()
    runs = [sandbox.submit_tests(code, task.language, task.tests) for code, task in jobs]
    for run in runs:
        run.result()
    return time.perf_counter() - started


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    document = {
        "name": "regrade",
        "model": {"base": "builtin:tiny"},
        "evaluate": {"suites": ["builtin:tiny"]},
    }
    recipe = check_recipe(document, "benchmark")
    with (
        tempfile.TemporaryDirectory() as place,
        RunFolder.open(Path(place, "run"), recipe) as folder,
        Sandbox() as sandbox,
    ):
        suites = load_suites(recipe.evaluate)
        write_answers(folder, suites, count)
        graders = make_graders(suites, sandbox, None, 0)
        before, started = peak_memory_mb(), time.perf_counter()
        answers = regrade(folder, suites, graders)
        seconds = time.perf_counter() - started
        print(f"{count} answers, {len(answers)} graded, {len(sandbox.workers)} workers")
        print(f"{count / seconds:.0f} answers per second ({seconds:.1f} s)")
        print(f"memory: {before:.0f} MB before, {peak_memory_mb():.0f} MB at the peak")
        alone = seconds_in_the_sandbox_alone(folder, suites, sandbox)
        print(f"{count / alone:.0f} per second in the sandbox alone: {alone / seconds:.0%} of it")
        folder.write_json("evaluation.json", summarise(suites, answers, 0).as_json())
        started = time.perf_counter()
        size = report.run(folder).stat().st_size
        print(f"report: {size / 1e6:.2f} MB in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
