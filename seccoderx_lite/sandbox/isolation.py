"""How well this machine isolates: layers are found by trying, promises are tested by attacking.

That a layer is on proves little. So the self-test (`jail/self_test.py`), run like any job, attacks
the trainer; a promise counts as kept only if every attack on it failed. The tier needs both.
"""

import base64
import contextlib
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import RecipeError, SandboxError
from seccoderx_lite.sandbox.jobs import Command, exec_job
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.worker import ANSWER_GRACE_S, JAIL_FOLDER, Worker

logger = logging.getLogger(__name__)

TIERS = ("limits-only", "confined", "strong")
"""From weakest to strongest."""
PROMISES = ("files", "secrets", "network", "signals", "processes", "memory", "survivors")
_NEEDED_TO_CONFINE = ("files", "secrets", "network", "signals")
_SELF_TEST_LIMITS = Limits(timeout_s=10, memory_mb=256, processes=16)
_EXTRA_FORKS = 8
"""Forks above the limit that are tolerated: the limit leaves room for the sandbox's own tasks."""

_HOW_TO_ENABLE = {
    "namespaces": "allow user namespaces: sysctl user.max_user_namespaces above 0 and "
    "kernel.apparmor_restrict_unprivileged_userns=0; in Docker add --security-opt "
    "seccomp=unconfined --security-opt systempaths=unconfined",
    "bubblewrap": "install bubblewrap set-uid root, or with an AppArmor profile that allows "
    "user namespaces",
    "landlock": "use Linux 5.13 or newer with the boot option lsm= including landlock",
    "seccomp": "use Linux on x86_64 or aarch64 with seccomp filters",
    "uid": "run as a plain user, or use a Python that every user may read (not below /root)",
    "cgroup": "start with `systemd-run --user --scope -p Delegate=yes COMMAND`, or in a container "
    "make /sys/fs/cgroup writable; without it, total memory is sampled every 20 ms",
}
_DECISIVE = ("namespaces", "landlock", "seccomp", "uid")
"""The layers that decide the tier."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What confines a job on this machine."""

    tier: str
    layers: Mapping[str, str]
    """Layer -> "on", or why it is off."""
    promises: Mapping[str, str]
    """Promise -> "kept", or how the self-test broke it."""


_known: dict[tuple[object, ...], Isolation] = {}


def check_names(tier: str, without: Collection[str]) -> None:
    """Raise RecipeError for a tier or a layer that does not exist, SandboxError without Linux."""
    if tier not in TIERS:
        raise RecipeError(f"isolation: must be one of {', '.join(TIERS)} (got {tier!r})")
    if unknown := sorted(set(without) - set(_HOW_TO_ENABLE)):
        raise RecipeError(
            f"without: unknown layer {unknown[0]!r}; known: {', '.join(_HOW_TO_ENABLE)}"
        )
    if sys.platform != "linux":
        raise SandboxError(f"the sandbox needs Linux (this is {sys.platform}); use a Linux machine")


def find(worker: Worker) -> Isolation:
    """The isolation of this worker's jobs; tested once per process and configuration."""
    key = (worker.settings, os.geteuid())
    worker.start()
    if key not in _known:
        promises = _attack(worker)
        layers = {name: why or "on" for name, why in worker.report["layers"].items()}
        _known[key] = Isolation(_tier(layers, promises), layers, promises)
    return _known[key]


def _tier(layers: Mapping[str, str], promises: Mapping[str, str]) -> str:
    on = {name for name, state in layers.items() if state == "on"}
    is_bounded = os.geteuid() != 0 or "uid" in on
    is_confined = all(promises[name] == "kept" for name in _NEEDED_TO_CONFINE)
    if not (is_bounded and is_confined and "seccomp" in on):
        return "limits-only"
    if "namespaces" in on:
        return "strong"
    return "confined" if on & {"landlock", "bubblewrap"} else "limits-only"


def require(wanted: str, found: Isolation) -> None:
    """Refuse a weaker tier than `wanted`; log a warning for the weakest tier.

    Raises:
        SandboxError: with every missing layer, the reason, and how to enable it.
    """
    if TIERS.index(found.tier) < TIERS.index(wanted):
        raise SandboxError(_refusal(wanted, found))
    if found.tier == "limits-only":
        broken = [name for name, state in found.promises.items() if state != "kept"]
        logger.warning(
            "sandbox tier limits-only: not protected from the code under test: %s",
            ", ".join(broken) or "kernel calls that only a system-call filter can block",
        )


def repairs(found: Isolation) -> list[str]:
    """What is missing for the strongest tier, each with its reason and what to do about it."""
    if found.tier == TIERS[-1]:
        return []
    missing = []
    for name, state in found.layers.items():
        is_needed = name in _DECISIVE and (name != "uid" or os.geteuid() == 0)
        if state != "on" and is_needed:
            missing.append(f"{name}: {state}; to enable it, {_HOW_TO_ENABLE[name]}")
    broken = [(name, state) for name, state in found.promises.items() if state != "kept"]
    return missing + [f"{name}: not protected; the self-test {state}" for name, state in broken]


def _refusal(wanted: str, found: Isolation) -> str:
    lines = [f"isolation {wanted!r} was requested, but this machine offers {found.tier!r}:"]
    lines += [f"  {line}" for line in repairs(found)]
    lines.append(
        f"  or accept the weaker tier: Sandbox(isolation={found.tier!r}), or "
        f"sandbox.isolation: {found.tier} in a recipe"
    )
    return "\n".join(lines)


def _attack(worker: Worker) -> dict[str, str]:
    """Run the self-test; returns each promise with "kept" or what the self-test could do."""
    limits, token = _SELF_TEST_LIMITS, os.urandom(8).hex()
    program = (JAIL_FOLDER / "self_test.py").read_text(encoding="utf-8")
    with _targets(token) as targets:
        stdin = json.dumps(targets).encode()
        command = Command([worker.python, "-I", "-S", "-c", program], limits, stdin)
        answer = worker.ask(exec_job([command]), limits.timeout_s + ANSWER_GRACE_S)
    report = _read_report(answer["steps"][0])
    states = {name: "; ".join(report["broken"].get(name, [])) or "kept" for name in PROMISES}
    if report["forks"] > limits.processes + _EXTRA_FORKS:
        states["processes"] = f"started {report['forks']} processes (limit {limits.processes})"
    if _is_running(f"sleep-{token}"):
        states["survivors"] = "left a process running"
    return states


def _read_report(step: Mapping[str, Any]) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(base64.b64decode(step["stdout"]))
    except ValueError:
        raise SandboxError(f"the sandbox's self-test did not run: {step}") from None
    return report


@contextlib.contextmanager
def _targets(token: str) -> Iterator[dict[str, object]]:
    """Files and sockets of the trainer that the self-test must not reach."""
    folder = Path(tempfile.mkdtemp(prefix="seccoderx-lite-self-test-"))
    folder.chmod(0o755)
    file = folder / "file"
    file.write_text("target")
    file.chmod(0o666)
    abstract_name = f"\0seccoderx-lite-self-test-{token}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        abstract.bind(abstract_name)
        for server in (tcp, unix, abstract):
            server.listen(4)
        yield {
            "token": token,
            "pid": os.getpid(),
            "file": str(file),
            "memory_mb": 2 * _SELF_TEST_LIMITS.memory_mb,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": str(folder / "socket"),
            "abstract": abstract_name,
        }


def _is_running(name: str) -> bool:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.read_bytes().startswith(name.encode()):
                return True
    return False
