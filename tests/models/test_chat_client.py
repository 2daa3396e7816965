"""`Retry-After`; the rest is tested through the judge and synth."""

import email.utils
import time

from seccoderx_lite.models.chat_client import LONGEST_RETRY_AFTER_S, seconds_to_wait


def test_a_retry_after_is_seconds_or_a_date():
    soon = email.utils.formatdate(time.time() + 10, usegmt=True)
    assert 8 < seconds_to_wait(soon) <= 10
    assert seconds_to_wait("99999999") == LONGEST_RETRY_AFTER_S
    assert [seconds_to_wait(t) for t in ("-3", "nan", "x", "")] == [0.0] * 4
