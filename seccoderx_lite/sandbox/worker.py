"""One worker: a starter process and the connection to it.

A worker serves one job at a time. A starter that fails is replaced. A job that fails because of the
sandbox is retried once, and then raises SandboxError.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.sandbox import bubblewrap
from seccoderx_lite.sandbox.jail import cgroup
from seccoderx_lite.sandbox.jail.codec import CodecError, read_frame
from seccoderx_lite.sandbox.jail.process_tree import count_tasks
from seccoderx_lite.sandbox.jail.remove_tree import remove_tree
from seccoderx_lite.sandbox.jail.users import NO_ROOM
from seccoderx_lite.sandbox.languages import tool_folders
from seccoderx_lite.sandbox.packages import Offer

JAIL_FOLDER = Path(__file__).parent / "jail"
START_TIMEOUT_S = 30.0
ANSWER_GRACE_S = 60.0
"""Time to answer beyond a job's own time: a hostile job may leave a million files to remove."""
_ANSWER_BYTES = 128 << 20
_ROOM_POLL_S = 0.5
_BOOT = (
    "import sys, types; package = types.ModuleType('jail'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['jail'] = package; from jail.starter import main; "
    "main(int(sys.argv[2]), sys.argv[3])"
)


@dataclass(frozen=True, slots=True)
class StarterSettings:
    pythons: tuple[str, ...]
    """Interpreters in order of preference; one that the jailed user cannot read is skipped."""
    read_only: tuple[str, ...]
    """Folders, besides the system's own, that jobs may read."""
    without: tuple[str, ...]
    """Layers to switch off."""
    packages: Offer
    """What Python code may import besides the standard library."""


class Worker:
    """A starter process, started at first use."""

    def __init__(self, settings: StarterSettings) -> None:
        self.settings = settings
        self.report: dict[str, Any] = {}
        """The starter's report of its layers and its folder."""
        self.python = settings.pythons[0]
        """The interpreter that the starter runs on."""
        self.group = ""
        """Folder of this worker's cgroup; empty if there is none."""
        self.process: subprocess.Popen[bytes] | None = None
        """The starter; None while it is not running."""
        self._why_no_bubblewrap: str | None = None
        """Why bubblewrap is not used; empty if it is used, None before it was tried."""
        self._connection: socket.socket | None = None

    def ask(
        self, request: Mapping[str, Any], seconds: float, secret: bytes | None = None
    ) -> dict[str, Any]:
        """Run one job and return its answer; only the tester can read `secret`.

        A job is retried once after a fault of the sandbox. If other processes exhaust this user's
        limit of processes, it is retried for up to `seconds`.

        Raises:
            SandboxError: the job failed each time because of the sandbox.
        """
        faults: list[str] = []
        until = time.monotonic() + seconds
        while True:
            answer = self._ask_once(request, seconds, secret)
            if "fault" not in answer:
                return answer
            faults.append(answer["fault"])
            self.close()
            if NO_ROOM in faults[-1] and time.monotonic() < until:
                time.sleep(_ROOM_POLL_S)
            elif len(faults) > 1:
                reasons = "; then ".join(faults[-2:])
                raise SandboxError(f"the sandbox failed {len(faults)} times: {reasons}")

    def _ask_once(
        self, request: Mapping[str, Any], seconds: float, secret: bytes | None
    ) -> dict[str, Any]:
        connection = self.start()
        body = json.dumps(request).encode()
        descriptors: list[int] = []
        try:
            if secret is not None:
                descriptors.append(_memory_file(secret))
            socket.send_fds(connection, [len(body).to_bytes(4, "big")], descriptors)
            connection.sendall(body)
            return self._receive(connection, seconds)
        except OSError as error:
            return {"fault": f"the connection to the starter process broke: {error}"}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _receive(self, connection: socket.socket, seconds: float) -> dict[str, Any]:
        if not select.select([connection], [], [], seconds)[0]:
            return {"fault": f"no answer within {seconds:.0f} s"}
        connection.settimeout(START_TIMEOUT_S)
        try:
            answer = read_frame(connection, _ANSWER_BYTES)
        except CodecError as error:
            return {"fault": str(error)}
        if answer is None:
            return {"fault": "the starter process ended"}
        found: dict[str, Any] = json.loads(answer)
        return found

    def start(self) -> socket.socket:
        """Start the starter unless it runs; returns the connection to it."""
        for python in self.settings.pythons:
            if self._connection is None:
                self._start_best(python)
            if "unreachable" not in self.report and self._connection is not None:
                return self._connection
            self.close()
        raise SandboxError(
            "the sandbox could not be started: the sandboxed user cannot read "
            f"{' or '.join(self.settings.pythons)}; install a Python that every user may read"
        )

    def _start_best(self, python: str) -> None:
        """Start a starter, inside bubblewrap if only that can make namespaces."""
        if self._why_no_bubblewrap is None:
            self._start_with(python, in_bubblewrap=False)
            if "unreachable" in self.report:
                return
            self._why_no_bubblewrap = self._find_bubblewrap(python)
        if self._connection is None:
            self._start_with(python, in_bubblewrap=self._why_no_bubblewrap == "")
        self.report["layers"]["bubblewrap"] = self._why_no_bubblewrap

    def _find_bubblewrap(self, python: str) -> str:
        """Try bubblewrap if it could help; returns why it is not used, or an empty text."""
        if "bubblewrap" in self.settings.without:
            return "switched off"
        if self.report["layers"]["namespaces"] in ("", "switched off"):
            return "not needed: it only adds namespaces"
        if os.geteuid() == 0:
            return "not used as root: bubblewrap cannot do what root cannot"
        if not bubblewrap.prefix((), ""):
            return "not installed"
        self.close()
        try:
            self._start_with(python, in_bubblewrap=True)
        except SandboxError as error:
            return str(error)
        if "unreachable" in self.report:
            self.close()
            return f"{python} cannot be read inside bubblewrap"
        return ""

    def _start_with(self, python: str, in_bubblewrap: bool) -> None:
        ours, theirs = socket.socketpair()
        why_no_group, packages = self._make_group(), self.settings.packages
        settings = {
            "read_only": self.settings.read_only,
            "scratch_parent": "/tmp" if in_bubblewrap else tempfile.gettempdir(),
            "hidden_tasks": count_tasks(os.getuid()) if in_bubblewrap else None,
            "without": self.settings.without,
            "modules": packages.modules,
            "packages": packages.entries,
            "group": self.group,
            "is_last_choice": python == self.settings.pythons[-1],
        }
        shown = (*self.settings.read_only, str(JAIL_FOLDER))
        wrapper = bubblewrap.prefix(shown, self.group) if in_bubblewrap else []
        arguments = [str(JAIL_FOLDER), str(theirs.fileno()), json.dumps(settings)]
        self.process = subprocess.Popen(
            [*wrapper, python, "-I", "-S", "-B", "-c", _BOOT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_clean_environment(python) | (_ONE_THREAD if packages.entries else {}),
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._connection, self.python = ours, python
        self.report = self._receive(ours, START_TIMEOUT_S)
        if "fault" in self.report:
            reason = f"{self.report['fault']}: {self._error_output()}"
            self.close()
            raise SandboxError(f"the sandbox could not be started: {reason}")
        if why_no_group and "layers" in self.report:
            self.report["layers"]["cgroup"] = why_no_group

    def _make_group(self) -> str:
        """Make this worker's cgroup; returns why that is impossible, or an empty text."""
        if "cgroup" in self.settings.without:
            return "switched off"
        try:
            self.group = cgroup.make(os.urandom(4).hex())
        except OSError as error:
            return str(error)
        return ""

    def _error_output(self) -> str:
        if self.process is None or self.process.stderr is None:
            return ""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        return self.process.stderr.read(4000).decode("utf-8", "replace").strip()[-1000:]

    def close(self) -> None:
        """End the starter and all its descendants."""
        if self._connection:
            self._connection.close()
        if self.process:
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            if self.process.stderr:
                self.process.stderr.close()
        folder = self.report.get("folder")
        if folder and os.path.isdir(folder):
            remove_tree(folder)
        if self.group:
            cgroup.remove(self.group)
        self._connection, self.process, self.group = None, None, ""


_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Numeric packages start no threads of their own, which would count against a job's limits."""


def _clean_environment(python: str) -> dict[str, str]:
    """The whole environment of all jobs: nothing of the trainer's, which may hold secrets."""
    return {
        "PATH": f"{os.path.dirname(python)}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "sandbox",
    }


def _memory_file(content: bytes) -> int:
    """A descriptor of a file in memory with this content."""
    descriptor = os.memfd_create("tests", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def settings_for(
    without: Sequence[str], readable: Sequence[str], packages: Offer
) -> StarterSettings:
    """Settings with this interpreter first, and the system's own as substitutes.

    Programs in a jail may read the folders `readable`.
    """
    own = os.path.realpath(sys.executable)
    substitutes = [
        path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if os.access(path, os.X_OK)
    ]
    folders = [sys.base_prefix, os.path.dirname(os.__file__)]
    outside = [os.path.realpath(path) for path in folders if not path.startswith("/usr/")]
    outside += [*tool_folders(), *readable, *packages.entries]
    outside += map(os.path.realpath, packages.entries)
    return StarterSettings(
        tuple(dict.fromkeys([own, *substitutes])),
        tuple(dict.fromkeys(outside)),
        tuple(without),
        packages,
    )
