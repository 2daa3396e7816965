"""One worker: a starter process and the line to it.

A worker serves one job at a time. A starter that fails is replaced; a job that failed through our
fault is tried once more and then raises SandboxError.
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
from seccoderx_lite.sandbox.jail.ending import count_tasks, remove_tree
from seccoderx_lite.sandbox.jail.users import NO_ROOM
from seccoderx_lite.sandbox.languages import tool_folders

JAIL_FOLDER = Path(__file__).parent / "jail"
START_TIMEOUT_S = 30.0
ANSWER_GRACE_S = 60.0
"""Patience beyond a job's time; a hostile one may leave a million files to remove."""
_ANSWER_BYTES = 128 << 20
_ROOM_POLL_S = 0.5
_BOOT = (
    "import sys, types; package = types.ModuleType('jail'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['jail'] = package; from jail.starter import main; "
    "main(int(sys.argv[2]), sys.argv[3])"
)


@dataclass(frozen=True, slots=True)
class StarterSettings:
    """How starters are started."""

    pythons: tuple[str, ...]
    """Interpreters in order of preference; one that the jailed user cannot read is passed over."""
    read_only: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Layers not to use even where they can be had."""


class Worker:
    """A starter process, started at first use."""

    def __init__(self, settings: StarterSettings) -> None:
        self.settings = settings
        self.report: dict[str, Any] = {}
        """What is known about its layers and folder."""
        self.python = settings.pythons[0]
        """The interpreter the starter runs on."""
        self._group = ""
        self._why_no_bubblewrap: str | None = None
        """Why bubblewrap is not used, empty where it is, None before it was tried."""
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    def ask(
        self, request: Mapping[str, Any], seconds: float, secret: bytes | None = None
    ) -> dict[str, Any]:
        """Run one job and return its answer; `secret` goes to the tester alone.

        After a fault it is run once more; where another job's processes left no room for its own,
        until they are gone, for `seconds` at most.

        Raises:
            SandboxError: there is no answer for a fault of the sandbox.
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
                told = "; then ".join(faults[-2:])
                raise SandboxError(f"the sandbox failed {len(faults)} times: {told}")

    def _ask_once(
        self, request: Mapping[str, Any], seconds: float, secret: bytes | None
    ) -> dict[str, Any]:
        line = self.start()
        body = json.dumps(request).encode()
        descriptors: list[int] = []
        try:
            if secret is not None:
                descriptors.append(_sealed(secret))
            socket.send_fds(line, [len(body).to_bytes(4, "big")], descriptors)
            line.sendall(body)
            return self._receive(line, seconds)
        except OSError as error:
            return {"fault": f"the line to the starter broke: {error}"}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _receive(self, line: socket.socket, seconds: float) -> dict[str, Any]:
        if not select.select([line], [], [], seconds)[0]:
            return {"fault": f"no answer within {seconds:.0f} s"}
        line.settimeout(START_TIMEOUT_S)
        try:
            answer = read_frame(line, _ANSWER_BYTES)
        except CodecError as error:
            return {"fault": str(error)}
        if answer is None:
            return {"fault": "the starter ended"}
        found: dict[str, Any] = json.loads(answer)
        return found

    def start(self) -> socket.socket:
        """The line to a running starter."""
        for python in self.settings.pythons:
            if self._line is None:
                self._start_best(python)
            if "unreachable" not in self.report and self._line is not None:
                return self._line
            self.close()
        raise SandboxError("the sandbox could not be started: no interpreter can be read")

    def _start_best(self, python: str) -> None:
        """Start a starter; in bubblewrap, if own namespaces are refused and it can have them."""
        if self._why_no_bubblewrap is None:
            self._start_with(python, in_bubblewrap=False)
            if "unreachable" in self.report:
                return
            self._why_no_bubblewrap = self._find_bubblewrap(python)
        if self._line is None:
            self._start_with(python, in_bubblewrap=self._why_no_bubblewrap == "")
        self.report["layers"]["bubblewrap"] = self._why_no_bubblewrap

    def _find_bubblewrap(self, python: str) -> str:
        """Try bubblewrap where it could help; returns why it is not used."""
        if "bubblewrap" in self.settings.without:
            return "switched off"
        if self.report["layers"]["namespaces"] in ("", "switched off"):
            return "not needed: it would only bring namespaces"
        if os.geteuid() == 0:
            return "not used as root, for whom it can do no more than namespaces of one's own"
        if not bubblewrap.prefix((), ""):
            return "not installed"
        self.close()
        try:
            self._start_with(python, in_bubblewrap=True)
        except SandboxError as error:
            return str(error)
        if "unreachable" in self.report:
            self.close()
            return f"{python} cannot be read inside it"
        return ""

    def _start_with(self, python: str, in_bubblewrap: bool) -> None:
        ours, theirs = socket.socketpair()
        why_no_group = self._make_group()
        settings = {
            "read_only": self.settings.read_only,
            "scratch_parent": "/tmp" if in_bubblewrap else tempfile.gettempdir(),
            "hidden_tasks": count_tasks(os.getuid()) if in_bubblewrap else None,
            "without": self.settings.without,
            "group": self._group,
            "is_last_choice": python == self.settings.pythons[-1],
        }
        shown = (*self.settings.read_only, str(JAIL_FOLDER))
        wrapper = bubblewrap.prefix(shown, self._group) if in_bubblewrap else []
        self._process = subprocess.Popen(
            [
                *wrapper, python, "-I", "-S", "-B", "-c", _BOOT,
                str(JAIL_FOLDER), str(theirs.fileno()), json.dumps(settings),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=clean_environment(python), cwd="/", pass_fds=[theirs.fileno()],
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._line, self.python = ours, python
        self.report = self._receive(ours, START_TIMEOUT_S)
        if "fault" in self.report:
            reason = f"{self.report['fault']}: {self._last_words()}"
            self.close()
            raise SandboxError(f"the sandbox could not be started: {reason}")
        if why_no_group and "layers" in self.report:
            self.report["layers"]["cgroup"] = why_no_group

    def _make_group(self) -> str:
        """Make this worker's cgroup; returns why that cannot be done, else an empty text."""
        if "cgroup" in self.settings.without:
            return "switched off"
        try:
            self._group = cgroup.make(os.urandom(4).hex())
        except OSError as error:
            return str(error)
        return ""

    def _last_words(self) -> str:
        if self._process is None or self._process.stderr is None:
            return ""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return self._process.stderr.read(4000).decode("utf-8", "replace").strip()[-1000:]

    def close(self) -> None:
        """End the starter and everything below it."""
        if self._line:
            self._line.close()
        if self._process:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stderr:
                self._process.stderr.close()
        folder = self.report.get("folder")
        if folder and os.path.isdir(folder):
            remove_tree(folder)
        if self._group:
            cgroup.remove(self._group)
        self._line, self._process, self._group = None, None, ""


def clean_environment(python: str) -> dict[str, str]:
    """The environment of everything below: an allow-list, nothing of ours."""
    return {
        "PATH": f"{os.path.dirname(python)}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "sandbox",
    }


def _sealed(secret: bytes) -> int:
    """A descriptor in memory from which `secret` can be read."""
    descriptor = os.memfd_create("tests", os.MFD_CLOEXEC)
    view = memoryview(secret)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def settings_for(without: Sequence[str], packages: Sequence[str]) -> StarterSettings:
    """Settings with this interpreter first and the system's own as a substitute.

    `packages` are folders of installed packages that programs in a jail may read.
    """
    own = os.path.realpath(sys.executable)
    substitutes = [
        path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if os.access(path, os.X_OK)
    ]
    folders = [sys.base_prefix, os.path.dirname(os.__file__)]
    outside = [os.path.realpath(path) for path in folders if not path.startswith("/usr/")]
    outside += [*tool_folders(), *packages]
    return StarterSettings(
        tuple(dict.fromkeys([own, *substitutes])), tuple(dict.fromkeys(outside)), tuple(without)
    )
