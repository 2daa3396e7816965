"""Whether the Hugging Face hub can be asked, found out before its client retries for a minute."""

import functools
import os
import re
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_SECONDS = 5.0


def may_be_hub_id(name: str) -> bool:
    """Return whether a name could be that of a repository on the hub, and not only a path.

    >>> may_be_hub_id("gpt2"), may_be_hub_id("org/model"), may_be_hub_id("./model")
    (True, True, False)
    """
    return len(name) <= 96 and _ID.fullmatch(name) is not None


@functools.cache
def is_hub_reachable() -> bool:
    """Return whether the hub accepts a connection; True behind a proxy, which is not asked."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    place = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if getproxies().get(place.scheme):
        return True
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname or "", port), _SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
