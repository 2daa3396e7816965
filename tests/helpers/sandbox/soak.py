"""Runs many jobs, good, failing and hostile, and checks that nothing is left and nothing grows.

`PYTHONPATH=tests python -m helpers.sandbox.soak 10000` prints the figures.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path

from helpers.sandbox.attacks import CASES, CONTROLS, Case

from seccoderx_lite.core.records import TestResult
from seccoderx_lite.sandbox import Sandbox

MIX = (
    "hack: exits at import",
    "hack: hard exit in the function",
    "hack: object equal to everything",
    "hack: forks so that two processes answer",
    "hack: kills everything it can see",
    "hack: writes reports to every descriptor",
    "fault: syntax error",
    "fault: segmentation fault",
    "fault: floods stdout",
    "fault: leaves a process that holds its pipes",
    "fault: value that cannot cross",
    "benign: prints",
    "benign: threads",
    "benign: database",
    "benign: state between calls",
)


@dataclass(frozen=True)
class Footprint:
    """Processes of the machine, and descriptors, threads and memory of this process."""

    processes: int
    descriptors: int
    threads: int
    memory_kb: int


@dataclass(frozen=True)
class Soak:
    """Figures from after the first jobs and from the end, and what went wrong."""

    jobs: int
    seconds: int
    tier: str
    before: Footprint
    after: Footprint
    starters_kb: int
    wrong: list[str]
    left: list[str]


def footprint() -> Footprint:
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Footprint(
        processes=sum(name.isdigit() for name in os.listdir("/proc")),
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=int(fields["Threads"]),
        memory_kb=int(fields["VmRSS"].split()[0]),
    )


def children() -> list[str]:
    """Process ids of the children of all threads of this process."""
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has just ended
            found += (task / "children").read_text().split()
    return found


def own_tree_memory_kb() -> int:
    """Memory of the starters; shared pages count once."""
    total = 0
    for pid in children():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def leftovers() -> set[str]:
    """Child processes of this one, and the folders and cgroups that sandboxes make."""
    found = {str(path) for path in Path(tempfile.gettempdir()).glob("seccoderx-lite-*")}
    found |= {
        str(path) for path in Path("/sys/fs/cgroup").glob(f"**/seccoderx-lite-{os.getpid()}-*")
    }
    return found | {f"process {pid}" for pid in children()}


def soak(count: int) -> Soak:
    """Run `count` jobs, at least 200."""
    known = {case.name: case for case in CASES}
    plan = [CONTROLS[0], *(known[name] for name in MIX), CONTROLS[1]]
    wrong: list[str] = []
    found_before = leftovers()
    with Sandbox("limits-only") as sandbox:
        pending: list[tuple[Case, Future[TestResult]]] = []
        started, before = time.monotonic(), footprint()
        for number in range(count):
            # Every fourth job is hostile; the others are cheap controls.
            case = plan[(number // 4) % len(plan)] if number % 4 == 0 else plan[-(number % 2)]
            tests = {"kind": "calls", "source": case.tests}
            pending.append((case, sandbox.submit_tests(case.code, "python", tests, case.limits)))
            if len(pending) >= 64 or number == count - 1:
                texts = [case.complaint(future.result()) for case, future in pending]
                wrong += [text for text in texts if text]
                pending.clear()
            if number == 200:
                before = footprint()
        seconds = time.monotonic() - started
        after, starters_kb = footprint(), own_tree_memory_kb()
        tier = sandbox.isolation.tier
    left = sorted(leftovers() - found_before)
    return Soak(count, round(seconds), tier, before, after, starters_kb, wrong, left)


if __name__ == "__main__":
    print(json.dumps(asdict(soak(int(sys.argv[1]))), indent=1))
