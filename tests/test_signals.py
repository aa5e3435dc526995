"""Signals come between two frames."""

import os
import signal
import threading

import pytest

from tracker.signals import signals_wait


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_block_is_through(number: signal.Signals) -> None:
    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    written = []

    def write() -> None:
        with signals_wait():
            os.kill(os.getpid(), number)
            written.append("all of it")

    before = signal.signal(number, leave)
    try:
        with pytest.raises(SystemExit, match=str(128 + number)):
            write()
        assert written == ["all of it"]
        assert signal.getsignal(number) is leave
    finally:
        signal.signal(number, before)


def test_other_threads_are_never_interrupted_anyway() -> None:
    done = []

    def work() -> None:
        with signals_wait():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
