"""Ctrl-C, SIGTERM and SIGHUP: work ends at its next safe point, where everything done is kept.

A second signal ends it at once, like a crash: work since the last checkpoint is lost.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from seccoderx_lite.core.errors import RunInterrupted

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SAME_REQUEST_S = 0.3
"""A launcher passes the terminal's Ctrl-C on to its processes, which have already received it."""

_requested_at: float | None = None


def is_requested() -> bool:
    """Whether a signal has asked the work to stop."""
    return _requested_at is not None


def check(where: str) -> None:
    """End the work here if a signal has asked for it; `where` completes "interrupted ...".

    Raises:
        RunInterrupted: it has.
    """
    if is_requested():
        raise RunInterrupted(f"interrupted {where}; everything done so far is kept")


@contextmanager
def safe_points() -> Iterator[None]:
    """Let a signal only request the end, and leave it to the work to call `check`."""
    global _requested_at
    _requested_at = None
    try:
        with on_signals(_request):
            yield
    finally:
        _requested_at = None


@contextmanager
def on_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle the signals meanwhile; one that is ignored, as under nohup, stays ignored."""
    former: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def end_at_once(number: int, frame: Any) -> None:
    """End the work by an exception; a further signal kills the process.

    Raises:
        KeyboardInterrupt: always.
    """
    for each in SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, signal.SIG_DFL)
    raise KeyboardInterrupt


def _request(number: int, frame: Any) -> None:
    global _requested_at
    if _requested_at is None:
        _requested_at = time.monotonic()
        logger.warning("stopping at the next safe point; Ctrl-C again stops at once")
    elif time.monotonic() - _requested_at > _SAME_REQUEST_S:
        end_at_once(number, frame)
