"""How well this machine can confine: layers found by trying, promises proved by canaries.

A layer that is on proves little; so a small program attacks the trainer through the real path, and
a promise counts as kept only if that attack failed. The tier is the weaker of both findings.
"""

import base64
import contextlib
import json
import logging
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import RecipeError, SandboxError
from seccoderx_lite.sandbox.worker import ANSWER_GRACE_S, JAIL_FOLDER, Worker

logger = logging.getLogger(__name__)

TIERS = ("limits-only", "confined", "strong")
"""From weakest to strongest."""
PROMISES = ("files", "secrets", "network", "signals", "processes", "memory", "survivors")
_CONFINING = ("files", "secrets", "network", "signals")
_CANARY_PROCESSES, _CANARY_MEMORY_MB = 16, 256

_WAY_OUT = {
    "namespaces": "allow user namespaces: sysctl user.max_user_namespaces above 0 and "
    "kernel.apparmor_restrict_unprivileged_userns=0; in Docker add --security-opt "
    "seccomp=unconfined --security-opt systempaths=unconfined",
    "bubblewrap": "install bubblewrap set-uid root, or with an AppArmor profile that allows userns",
    "landlock": "use Linux 5.13 or newer with landlock among its security modules (lsm=)",
    "seccomp": "use Linux on x86_64 or aarch64 with system-call filters",
    "uid": "run as a plain user, or use a Python that every user may read (not below /root)",
    "cgroup": "start with `systemd-run --user --scope -p Delegate=yes COMMAND`, or in a container "
    "make /sys/fs/cgroup writable; without it total memory is sampled every 20 ms",
}
_DECISIVE = ("namespaces", "landlock", "seccomp", "uid")
"""The layers on which the tier depends."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What confines a job on this machine."""

    tier: str
    layers: Mapping[str, str]
    """Layer -> "on", or why it is off."""
    promises: Mapping[str, str]
    """Promise -> "kept", or what a canary could do."""


_known: dict[tuple[object, ...], Isolation] = {}


def check_names(tier: str, without: Collection[str]) -> None:
    """Raise RecipeError for a tier or a layer that does not exist, SandboxError without Linux."""
    if tier not in TIERS:
        raise RecipeError(f"isolation: must be one of {', '.join(TIERS)} (got {tier!r})")
    if unknown := sorted(set(without) - set(_WAY_OUT)):
        raise RecipeError(f"without: no layer {unknown[0]!r}; known: {', '.join(_WAY_OUT)}")
    if sys.platform != "linux":
        raise SandboxError(f"the sandbox needs Linux (this is {sys.platform}); use a Linux machine")


def find(worker: Worker) -> Isolation:
    """The isolation this worker gives; found once per process and configuration."""
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
    is_confined = all(promises[name] == "kept" for name in _CONFINING)
    if not (is_bounded and is_confined and "seccomp" in on):
        return "limits-only"
    if "namespaces" in on:
        return "strong"
    return "confined" if on & {"landlock", "bubblewrap"} else "limits-only"


def require(wanted: str, found: Isolation) -> None:
    """Refuse less isolation than was asked for; warn where little was accepted.

    Raises:
        SandboxError: with every missing layer, its reason and the way out.
    """
    if TIERS.index(found.tier) < TIERS.index(wanted):
        raise SandboxError(_refusal(wanted, found))
    if found.tier == "limits-only":
        broken = [name for name, state in found.promises.items() if state != "kept"]
        logger.warning(
            "the sandbox only sets limits; not protected from the code: %s",
            ", ".join(broken) or "what a system-call filter would refuse",
        )


def repairs(found: Isolation) -> list[str]:
    """What is missing for the strongest tier, each with its reason and what to do about it."""
    lines = []
    for name, state in found.layers.items():
        is_needed = name in _DECISIVE and (name != "uid" or os.geteuid() == 0)
        if state != "on" and is_needed:
            lines.append(f"{name}: {state}; to change it, {_WAY_OUT[name]}")
    for name, state in found.promises.items():
        if state != "kept":
            lines.append(f"{name}: not protected, a canary {state}")
    return lines


def _refusal(wanted: str, found: Isolation) -> str:
    lines = [f"isolation {wanted!r} was asked for; this machine gives {found.tier!r}:"]
    lines += [f"  {line}" for line in repairs(found)]
    lines.append(f"  or accept it: Sandbox(isolation={found.tier!r}), in a recipe `isolation:`")
    return "\n".join(lines)


def _attack(worker: Worker) -> dict[str, str]:
    """Run the canary; returns each promise with "kept" or what the canary could do."""
    limits = {
        "timeout_s": 10, "memory_mb": _CANARY_MEMORY_MB, "output_bytes": 65536,
        "processes": _CANARY_PROCESSES,
    }  # fmt: skip
    token = os.urandom(8).hex()
    with _targets(token) as targets:
        step = {
            "command": [worker.python, "-I", "-S", "-c", (JAIL_FOLDER / "canary.py").read_text()],
            "limits": limits,
            "stdin": base64.b64encode(json.dumps(targets).encode()).decode(),
        }
        answer = worker.ask({"kind": "exec", "files": {}, "steps": [step]}, 10 + ANSWER_GRACE_S)
    words = _read_words(answer["steps"][0])
    states = {name: "; ".join(words["broken"].get(name, [])) or "kept" for name in PROMISES}
    if words["forks"] > _CANARY_PROCESSES + 8:
        states["processes"] = f"started {words['forks']} processes (limit {_CANARY_PROCESSES})"
    if _is_running(f"sleep-{token}"):
        states["survivors"] = "left a process behind"
    return states


def _read_words(step: Mapping[str, Any]) -> dict[str, Any]:
    try:
        words: dict[str, Any] = json.loads(base64.b64decode(step["stdout"]))
    except ValueError:
        raise SandboxError(f"the sandbox's self-test did not run: {step}") from None
    return words


@contextlib.contextmanager
def _targets(token: str) -> Iterator[dict[str, object]]:
    """Things of the trainer that the canary must not reach."""
    folder = Path(tempfile.mkdtemp(prefix="seccoderx-lite-canary-"))
    folder.chmod(0o755)
    file = folder / "file"
    file.write_text("canary")
    file.chmod(0o666)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        tcp, udp, unix, abstract = (
            stack.enter_context(socket.socket(family, style))
            for family, style in (
                (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM),
            )
        )  # fmt: skip
        for server in (tcp, udp):
            server.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        abstract.bind(f"\0seccoderx-lite-canary-{token}")
        for server in (tcp, unix, abstract):
            server.listen(4)
        yield {
            "token": token, "pid": os.getpid(), "file": str(file),
            "memory_mb": 2 * _CANARY_MEMORY_MB,
            "tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1],
            "unix": str(folder / "socket"), "abstract": f"\0seccoderx-lite-canary-{token}",
        }  # fmt: skip


def _is_running(name: str) -> bool:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.read_bytes().startswith(name.encode()):
                return True
    return False


def describe(found: Isolation) -> dict[str, Any]:
    """What `environment.json` and `doctor` show."""
    return {
        "tier": found.tier,
        "layers": dict(found.layers),
        "promises": dict(found.promises),
        "repairs": repairs(found) if found.tier != TIERS[-1] else [],
        "kernel": platform.release(),
    }
