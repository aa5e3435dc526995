"""One step ahead: same results, same order, one waiting, ends well."""

import threading
import time

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.ahead import ahead


@given(st.lists(st.integers(), max_size=20))
def test_it_is_map_on_another_thread(items):
    threads = set()

    def square(x):
        threads.add(threading.current_thread())
        return x * x

    assert list(ahead(items, square)) == [x * x for x in items]
    assert threading.current_thread() not in threads
    assert len(threads) == (1 if items else 0)


def test_never_more_than_one_result_waits():
    made, most = [], 0

    def count():
        for i in range(20):
            made.append(i)
            yield i

    for used, _ in enumerate(ahead(count(), lambda x: x)):
        time.sleep(0.005)
        most = max(most, len(made) - used)
    assert most == 2  # the one in use and the one that waits


def test_making_and_using_overlap():
    def slowly(x):
        time.sleep(0.05)
        return x

    inside = []
    lock = threading.Lock()
    for _ in ahead(range(3), lambda x: (inside.append(lock.locked()), slowly(x))[1]):
        with lock:
            time.sleep(0.02)
    assert any(inside)


def test_an_error_comes_after_what_was_good():
    source = fakes.FakeSource(fakes.frame(0), fakes.frame(1), RuntimeError("broken"))
    frames = ahead(source, lambda frame: frame)
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(RuntimeError, match="broken"):
        next(frames)


def test_giving_up_closes_what_is_read_and_leaves_no_thread():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    before = threading.active_count()
    results = ahead(endless(), lambda x: x)
    next(results)
    results.close()
    assert len(closed) == 1
    assert threading.active_count() == before


def test_the_next_item_is_asked_for_only_when_the_last_is_made():
    asked, made = [], []

    def items():
        for i in range(10):
            asked.append(len(made))
            yield i

    def slowly(item):
        time.sleep(0.002)
        made.append(item)
        return item

    assert list(ahead(items(), slowly)) == list(range(10))
    assert asked == list(range(10))  # nothing is read ahead, nothing queued
