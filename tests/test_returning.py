from dataclasses import replace

import fakes
import numpy as np
import pytest

from tracker.geometry import Affine
from tracker.returning import Numbers, ReturnConfig
from tracker.skeleton import COCO17
from tracker.types import Track, TrackStatus

CONFIG = ReturnConfig()


def someone(x, number, time, height=300.0, y=0.0) -> Track:
    keypoints = fakes.person(x, height=height) + np.array([0.0, y])
    track = fakes.make_track(keypoints, track_id=abs(number), status=TrackStatus.CONFIRMED)
    return replace(track, id=number, last_seen=time, time=time)


def who(new, absent, config=CONFIG, moved=None):
    """The number of somebody new; at time 0 the absent were at x, at a speed."""
    numbers = Numbers(COCO17, config)
    for time in (-1.0, -0.5, 0.0):
        numbers.remember([someone(x + time * v, n, time) for n, (x, v) in absent.items()], time)
    if moved is not None:
        numbers.move_camera(moved)
    return numbers.given([new])[new.id]


def test_who_walks_on_is_known_again_where_the_walk_leads():
    absent = {7: (100, 200)}
    assert who(someone(290, -1, time=1.0), absent) == 7
    assert who(someone(-500, -1, time=1.0), absent) == 1


def test_people_stay_on_the_floor():
    assert who(someone(100, -1, time=2.0), {7: (100, 0)}) == 7
    assert who(someone(100, -1, time=2.0, y=-250.0), {7: (100, 0)}) == 1


def test_a_child_is_not_taken_for_the_adult_who_was_there():
    assert who(someone(100, -1, time=0.7, height=150), {7: (100, 0)}) == 1
    assert who(someone(100, -1, time=0.7, height=290), {7: (100, 0)}) == 7


def test_of_two_who_may_both_be_it_neither_is_taken():
    assert who(someone(100, -1, time=2.0), {7: (90, 0), 8: (110, 0)}) == 1
    assert who(someone(100, -1, time=2.0), {7: (90, 0)}) == 7


def test_who_is_here_is_nobody_who_comes_back():
    numbers = Numbers(COCO17, CONFIG)
    here = someone(100, 7, time=0.0)
    numbers.remember([here], 0.0)
    assert numbers.given([here, someone(100, -1, time=0.0)]) == {-1: 1}


def test_one_number_for_one_person():
    numbers = Numbers(COCO17, CONFIG)
    numbers.remember([someone(100, 7, time=0.0)], 0.0)
    both = [someone(100, -1, time=1.0), someone(105, -2, time=1.0)]
    assert sorted(numbers.given(both).values()) == [1, 7]


@pytest.mark.parametrize(("unseen", "known"), [(3.0, 7), (20.0, 1)])
def test_nobody_is_remembered_for_ever(unseen, known):
    numbers = Numbers(COCO17, replace(CONFIG, least=0.0))
    numbers.remember([someone(100, 7, time=0.0)], 0.0)
    numbers.remember([], unseen)
    assert numbers.given([someone(100, -1, time=unseen)]) == {-1: known}


def test_a_camera_that_turns_takes_the_absent_along():
    away = Affine(np.eye(2), np.array([400.0, 0.0]))
    assert who(someone(500, -1, time=1.0), {7: (100, 0)}, moved=away) == 7
    assert who(someone(100, -1, time=1.0), {7: (100, 0)}, moved=away) == 1


def test_the_longer_somebody_is_away_the_less_sure_is_it():
    sure = [
        next(
            p
            for p in np.linspace(1, -0.01, 102)
            if who(someone(130, -1, time=t), {7: (100, 0)}, replace(CONFIG, least=p)) == 7
        )
        for t in (0.5, 2.0, 6.0)
    ]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] > sure[-1]
