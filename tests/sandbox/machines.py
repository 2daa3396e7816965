"""Machines that offer less than this one, and a plain user to try them as."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

DESCRIBE = """
import json, os, sys
from pathlib import Path
from seccoderx_lite.sandbox import Sandbox, isolation, worker

tests = {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 1}]}
with Sandbox("limits-only", workers=1, without=sys.argv[1:]) as sandbox:
    result = sandbox.run_tests("def f(): return 1", "python", tests)
    print(json.dumps({**sandbox.describe(), "status": result.status}))
"""
"""Prints what a sandbox says of itself after a job that must pass."""

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
"""Makes the jails use no more of Landlock than version {} had."""

NO_UNSHARE = """
from seccoderx_lite.sandbox.jail import seccomp, syscalls

seccomp._ALWAYS = {"unshare": seccomp._ALWAYS["unshare"]}
seccomp._ABSENT = {}
seccomp._PRCTL = seccomp._CLONE = seccomp._SOCKET = (-1, -1)
machine = seccomp.Filter(
    local_sockets=True, path_changes=True, alone=True, landlock_version=9
)
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
machine.install()
"""
"""Refuses namespaces the way this package makes them, not the way bubblewrap does."""


def run_as_plain_user(*arguments: str) -> Any:
    """Run Python as another user than root; returns the JSON it printed, or skips the test."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if os.geteuid() != 0 or python is None:
        pytest.skip("needs root, and a Python that a plain user can read")
    is_new = [python, "-c", "import sys; raise SystemExit(sys.version_info < (3, 11))"]
    if subprocess.run(is_new).returncode or not os.access(ROOT, os.X_OK):
        pytest.skip("needs a Python 3.11 that a plain user can read")
    done = subprocess.run(
        [python, "-B", *arguments],
        env={
            "PYTHONPATH": str(ROOT), "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": "/nonexistent",
        },
        cwd="/", user=61234, group=61234, extra_groups=[], capture_output=True, text=True,
    )  # fmt: skip
    if "Permission denied" in done.stderr or "No module named" in done.stderr:
        pytest.skip("the source tree cannot be read by a plain user")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)
