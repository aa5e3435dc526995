from dataclasses import replace

import fakes
import numpy as np
import pytest

from tracker.motion import BodyMotion, MotionConfig
from tracker.returning import ReturnConfig, returned
from tracker.skeleton import COCO17
from tracker.types import Mixture, Track, TrackStatus

MOTION = BodyMotion.of(COCO17, MotionConfig())


def someone(x, *, track_id=1, speed=0.0, height=300.0, last_seen=0.0, time=0.0) -> Track:
    track = fakes.make_track(
        fakes.person(x, height=height), track_id=track_id, status=TrackStatus.LOST
    )
    mean = track.state.mean.copy()
    mean[:, 34:] = np.tile([speed, 0.0], 17)
    state = Mixture(mean, track.state.cov, track.state.log_weight)
    return replace(track, state=state, last_seen=last_seen, time=time)


CONFIG = ReturnConfig()


def who(new, absent, config=CONFIG):
    found = returned(new, absent, MOTION, COCO17, config)
    return None if found is None else found.id


def test_who_walks_on_is_known_again_where_the_walk_leads():
    absent = [someone(100, speed=200)]
    assert who(someone(260, time=1.0), absent) == 1
    assert who(someone(-500, time=1.0), absent) is None


def test_a_child_is_not_taken_for_the_adult_who_was_there():
    assert who(someone(100, height=150, time=0.7), [someone(100)]) is None
    assert who(someone(100, height=290, time=0.7), [someone(100)]) == 1


def test_of_two_who_may_both_be_it_neither_is_taken():
    both = [someone(90), someone(110, track_id=2)]
    assert who(someone(100, time=2.0), both) is None
    assert who(someone(100, time=2.0), both[:1]) == 1


@pytest.mark.parametrize(("unseen", "known"), [(3.0, 1), (20.0, None)])
def test_nobody_is_remembered_for_ever(unseen, known):
    assert who(someone(100, time=unseen), [someone(100)], ReturnConfig(least=0.0)) == known


def test_the_longer_somebody_is_away_the_less_sure_is_it():
    sure = [
        next(
            p
            for p in np.linspace(1, -0.01, 102)
            if who(someone(130, time=t), [someone(100)], replace(CONFIG, least=p)) == 1
        )
        for t in (0.5, 2.0, 6.0)
    ]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] > sure[-1]
