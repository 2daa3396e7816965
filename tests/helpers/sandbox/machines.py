"""Programs that make this machine offer less, and a way to run them as a plain user."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

DESCRIBE = """
import dataclasses, json, sys
from seccoderx_lite.sandbox import Sandbox

tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 1}]}
with Sandbox("limits-only", workers=1, without=sys.argv[1:]) as sandbox:
    result = sandbox.run_tests("def f(): return 1", "python", tests)
    print(json.dumps({**dataclasses.asdict(sandbox.describe()), "status": result.status}))
"""
"""Prints the description of a sandbox, and the status of a job that must pass."""

OLD_LANDLOCK = """
import shutil, tempfile
from pathlib import Path
from seccoderx_lite.sandbox import isolation, worker

copy = Path(tempfile.mkdtemp()) / "jail"
shutil.copytree(worker.JAIL_FOLDER, copy)
text = (copy / "landlock.py").read_text()
(copy / "landlock.py").write_text(text.replace("return sc.call(_CREATE, 0, 0, 1)", "return {}"))
worker.JAIL_FOLDER = isolation.JAIL_FOLDER = copy
"""
"""Makes the jails use only what version {} of Landlock had."""

NO_UNSHARE = """
from seccoderx_lite.sandbox.jail import seccomp, syscalls

syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.Program(seccomp.refuse_all({"unshare": seccomp.REFUSED["unshare"]})).install()
"""
"""Refuses namespaces to this package, which makes them with `unshare`, but not to bubblewrap."""

CONTAINER = """
from seccoderx_lite.sandbox.jail import seccomp, syscalls

# What the default profile of a container refuses, even to root.
names = (
    "mount umount2 unshare setns pivot_root open_tree move_mount fsopen fsmount mount_setattr "
    "bpf perf_event_open keyctl add_key request_key"
).split()
refused = seccomp.refuse_all({name: seccomp.REFUSED[name] for name in names})
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.Program(refused + seccomp.refuse_new_namespaces()).install()
"""
"""Refuses what a container refuses."""


def run_as_plain_user(*arguments: str) -> Any:
    """Run Python as a user other than root; returns the JSON it prints, or skips the test."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if os.geteuid() != 0 or python is None:
        pytest.skip("needs root, and a Python that a plain user can read")
    is_new = [python, "-c", "import sys; raise SystemExit(sys.version_info < (3, 11))"]
    if subprocess.run(is_new).returncode or not os.access(ROOT, os.X_OK):
        pytest.skip("needs a Python 3.11 that a plain user can read")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    system_path = os.environ.get("PATH", "/usr/bin:/bin")
    done = subprocess.run(
        [python, "-B", *arguments],
        env={"PYTHONPATH": path, "PATH": system_path, "HOME": "/nonexistent"},
        cwd="/",
        user=61234,
        group=61234,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    if "Permission denied" in done.stderr or "No module named" in done.stderr:
        pytest.skip("the source tree cannot be read by a plain user")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)
