"""Run code that a model wrote, and tell honestly whether it works.

`Sandbox` is the contract; `Limits` bounds one run; `SandboxError` is our failure, never the code's.
"""

from seccoderx_lite.errors import SandboxError
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Sandbox", "SandboxError"]
