"""Run code that a model wrote, and count the tests that it passes.

`Sandbox` runs it, `Limits` bounds one run, and `SandboxError` says that the sandbox failed (never
the code). README.md in this folder lists the tiers and what each one promises.

Uses `core` alone and works without torch. Files in `jail/` use nothing but the standard library:
they run next to the code under test in an interpreter that holds none of the trainer's data.
"""

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Sandbox", "SandboxError"]
