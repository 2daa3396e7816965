"""Seeds for random draws that depend only on what is drawn."""

import hashlib

from seccoderx_lite.core.records import Json


def draw_seed(*parts: Json) -> int:
    """Return a seed in [0, 2**63): equal parts give the same seed on any machine."""
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
