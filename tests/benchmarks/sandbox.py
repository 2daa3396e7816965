"""Times the sandbox against a bare interpreter, in one run, in alternating rounds.

    PYTHONPATH=tests python tests/benchmarks/sandbox.py [--rounds 5]

Prints one table. "median" is the time of one test run at a time; "per second" is with all workers.
Only compare ratios from the same run: times depend on machine and load. Tiers that this machine
does not offer are left out. The memory of the pool counts shared pages once.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from helpers.sandbox.soak import own_tree_memory_kb

from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.sandbox.languages import find_tool

CALLS = {
    "kind": "calls",
    "source": """
import pytest
from candidate import total

def test_adds():
    assert total([1, 2, 3]) == 6

def test_empty():
    assert total([]) == 0

@pytest.mark.security
def test_refuses():
    with pytest.raises(ValueError):
        total(None)
""",
}
PYTHON = """
def total(numbers):
    if numbers is None:
        raise ValueError("no numbers")
    return sum(numbers)
"""
STDIO = {"kind": "stdio", "functionality": [{"stdin": "20 22", "stdout": "42"}]}
C = """
#include <stdio.h>
int main(void) {{ long a, b; scanf("%ld %ld", &a, &b); printf("%ld\\n", a + b); return 0; }}
/* {} */
"""
SERIAL, BATCH = 20, 60
WITHOUT = {
    "strong": (),
    "confined": ("namespaces",),
    "limits-only": ("namespaces", "landlock", "seccomp", "uid"),
}
"""The layers to switch off for each tier."""

Job = Callable[[], None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        jobs: dict[str, Job] = {"bare python -I -S": _bare}
        pools: dict[str, Sandbox] = {}
        for tier, without in WITHOUT.items():
            pool = stack.enter_context(Sandbox("limits-only", without=without))
            if pool.isolation.tier == tier:
                pools[tier] = pool
                jobs[f"calls, {tier}"] = _calls_in(pool)
        best = next(iter(pools.values()))
        if find_tool(("gcc", "clang", "cc")):
            jobs[f"C, new source, {best.isolation.tier}"] = _compiled_in(best)
        _print_table(*_measure(jobs, rounds))
        memory = own_tree_memory_kb() / 1024 / len(pools)
    print(f"\npool of {len(os.sched_getaffinity(0))} workers: {memory:.0f} MB")


def _measure(
    jobs: dict[str, Job], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Times of single runs in ms, and runs per second of each round, by name of the job."""
    singles: dict[str, list[float]] = {name: [] for name in jobs}
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    workers = len(os.sched_getaffinity(0))
    for job in jobs.values():
        job()
    for number in range(rounds):
        names = list(jobs) if number % 2 == 0 else list(reversed(jobs))
        for name in names:
            for _ in range(SERIAL):
                started = time.perf_counter()
                jobs[name]()
                singles[name].append((time.perf_counter() - started) * 1000)
            with ThreadPoolExecutor(workers) as threads:
                started = time.perf_counter()
                for future in [threads.submit(jobs[name]) for _ in range(BATCH)]:
                    future.result()
                rates[name].append(BATCH / (time.perf_counter() - started))
    return singles, rates


def _print_table(singles: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    bare = statistics.median(singles["bare python -I -S"])
    print(f"{'':28} {'median':>9} {'x bare':>7} {'per second':>10} {'best round':>11}")
    for name, times in singles.items():
        median, rate = statistics.median(times), statistics.median(rates[name])
        print(
            f"{name:28} {median:6.1f} ms {median / bare:7.2f} {rate:10.0f} {max(rates[name]):11.0f}"
        )


def _bare() -> None:
    program = PYTHON + "assert total([1, 2, 3]) == 6"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


def _calls_in(pool: Sandbox) -> Job:
    def job() -> None:
        result = pool.run_tests(PYTHON, "python", CALLS)
        assert result.status == "passed", result

    return job


def _compiled_in(pool: Sandbox) -> Job:
    def job() -> None:
        result = pool.run_tests(C.format(os.urandom(8).hex()), "c", STDIO)
        assert result.status == "passed", result

    return job


if __name__ == "__main__":
    main()
