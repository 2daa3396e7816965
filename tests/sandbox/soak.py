"""Runs many jobs, good, failing and hostile, and checks that nothing is left and nothing grows.

`python soak.py 10000` prints the figures; `test_soak.py` runs it under the marker `slow`.
"""

import json
import os
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

import attacks

from seccoderx_lite.core.records import TestResult
from seccoderx_lite.sandbox import Sandbox

MIX = (
    "hack: exits at import", "hack: hard exit in the function", "hack: object equal to everything",
    "hack: forks so that two processes answer", "hack: kills everything it can see",
    "hack: writes reports to every descriptor", "fault: syntax error", "fault: segmentation fault",
    "fault: floods stdout", "fault: leaves a process that holds its pipes",
    "fault: value that cannot cross", "benign: prints", "benign: threads", "benign: database",
    "benign: state between calls",
)  # fmt: skip


def footprint() -> dict[str, int]:
    """Processes of the machine, and descriptors, threads and memory of this process."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(fields["Threads"]),
        "memory_kb": int(fields["VmRSS"].split()[0]),
    }


def own_tree_memory_kb() -> int:
    """Memory of the starters, with shared pages counted once."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def leftovers() -> set[str]:
    """Child processes of this one, and folders and groups that a sandbox makes."""
    found = {str(path) for path in Path(tempfile.gettempdir()).glob("seccoderx-lite-*")}
    found |= {
        str(path) for path in Path("/sys/fs/cgroup").glob(f"**/seccoderx-lite-{os.getpid()}-*")
    }
    for task in Path("/proc/self/task").iterdir():
        found |= {f"process {pid}" for pid in (task / "children").read_text().split()}
    return found


def soak(count: int) -> dict[str, object]:
    """Run `count` jobs; returns figures from before and after, and what went wrong."""
    known = {case.name: case for case in attacks.CASES}
    plan = [attacks.CONTROLS[0], *(known[name] for name in MIX), attacks.CONTROLS[1]]
    wrong: list[str] = []
    found_before = leftovers()
    with Sandbox("limits-only") as sandbox:
        pending: list[tuple[attacks.Case, Future[TestResult]]] = []
        started, before = time.monotonic(), {}
        for number in range(count):
            # Cheap controls fill up: hostile cases are every fourth job.
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
    return {
        "jobs": count, "seconds": round(seconds), "tier": tier, "before": before, "after": after,
        "starters_kb": starters_kb, "wrong": wrong[:20], "wrong_count": len(wrong),
        "left": sorted(leftovers() - found_before),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(soak(int(sys.argv[1])), indent=1))
