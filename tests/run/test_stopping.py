"""A first signal asks for the end, a second one ends at once, an ignored one stays ignored."""

import os
import signal
import time

import pytest

from seccoderx_lite.core.errors import RunInterrupted
from seccoderx_lite.run import stopping


@pytest.fixture(autouse=True)
def former_handlers():
    former = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    for number in former:  # one may be ignored where tests run
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stopping.SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_the_work_at_the_next_safe_point(number):
    with stopping.safe_points():
        stopping.check("never")
        os.kill(os.getpid(), number)
        assert stopping.is_requested()
        with pytest.raises(RunInterrupted, match="interrupted after 3 answers; everything done"):
            stopping.check("after 3 answers")
    assert not stopping.is_requested()


def test_a_second_signal_ends_the_work_at_once_and_a_third_kills_it():
    with stopping.safe_points():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.35)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_a_signal_that_a_launcher_passes_on_is_the_same_request():
    with stopping.safe_points():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.is_requested()


def test_a_signal_that_is_ignored_as_under_nohup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping.safe_points():
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stopping.is_requested()


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with stopping.safe_points():
        pass
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before
