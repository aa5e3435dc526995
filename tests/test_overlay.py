from dataclasses import replace

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from tracker.overlay import draw, ellipse_rings, track_colours
from tracker.types import TrackStatus


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=-1)


@given(
    coverage=st.floats(0.05, 0.999),
    std=st.floats(0.1, 50),
    ratio=st.floats(0.05, 1),
    angle=st.floats(0, np.pi),
)
def test_a_ring_lies_at_the_chi2_quantile_of_its_covariance(coverage, std, ratio, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cov = turn @ np.diag([std**2, (ratio * std) ** 2]) @ turn.T
    xy = np.array([[3.0, -7.0]])
    offset = ellipse_rings(xy, cov[None], coverage)[0] - xy
    squared = np.einsum("pa,ab,pb->p", offset, np.linalg.inv(cov), offset)
    np.testing.assert_allclose(squared, chi2.ppf(coverage, 2), rtol=1e-6)


def test_drawing_leaves_the_frame_alone_and_stays_near_the_person():
    tracked = fakes.tracked(fakes.make_track(fakes.person(200)))
    before = tracked.frame.image.copy()
    picture = draw(tracked)
    np.testing.assert_array_equal(tracked.frame.image, before)
    columns = np.flatnonzero(changed(before, picture).any(axis=0))
    assert 100 < columns.min() < columns.max() < 300


def test_a_filled_keypoint_has_its_colour_at_its_own_place():
    track = fakes.make_track(fakes.person(200.5, top=60.5), std=1.0)
    picture = draw(fakes.tracked(track))
    left_wrist = np.floor(track.keypoints[9]).astype(int)
    assert tuple(picture[left_wrist[1], left_wrist[0]]) == track_colours(1)[1]


def test_a_likelier_rival_is_drawn_stronger():
    def strength(weight: float) -> float:
        rival = fakes.person(420)
        track = fakes.make_track(fakes.person(100), rivals=[(weight, rival)], std=1.0)
        # Error rings reach far when there is a rival: look at the rival's feet only.
        tracked = fakes.tracked(track)
        lone = fakes.tracked(replace(track, state=_scaled_to(track, 0.0)))
        region = np.s_[300:340, 380:460]
        return float(
            np.abs(draw(tracked)[region].astype(float) - draw(lone)[region].astype(float)).sum()
        )

    assert 0 < strength(0.1) < strength(0.45)


def _scaled_to(track, weight):
    state = track.state
    return type(state)(state.mean[:1], state.cov[:1], np.zeros(1) + weight)


def test_a_lost_person_is_fainter_and_dashed():
    person = fakes.make_track(fakes.person(300), std=1.0)
    lost = replace(person, status=TrackStatus.LOST)
    blank = fakes.frame().image.astype(float)
    seen, unseen = (np.abs(draw(fakes.tracked(t)).astype(float) - blank) for t in (person, lost))
    assert unseen.max() < 0.6 * seen.max()
    assert changed(blank, blank + unseen).sum() < changed(blank, blank + seen).sum()


def test_an_unseen_keypoint_is_hollow():
    visible = np.ones(17)
    visible[9] = 0.1
    xy = fakes.person(300.5, top=60.5)
    centre = np.floor(xy[9]).astype(int)
    filled, hollow = (
        draw(fakes.tracked(fakes.make_track(xy, std=0.1, visible=v), height=960, width=1280))
        for v in (np.ones(17), visible)
    )
    row, column = centre[1] + 1, centre[0] + 2  # beside the forearm, inside the circle
    assert tuple(filled[row, column]) == track_colours(1)[1]
    assert tuple(hollow[row, column]) != track_colours(1)[1]


@pytest.mark.parametrize("offset", [-1e9, -5000.0, 620.0, 5000.0, 1e9])
def test_people_outside_the_picture_do_not_stop_the_drawing(offset):
    far = fakes.make_track(
        fakes.person(offset), status=TrackStatus.LOST, std=1e4, rivals=[(0.3, fakes.person(0))]
    )
    assert draw(fakes.tracked(far)).shape == (480, 640, 3)


def test_neighbouring_ids_have_distant_colours():
    first = np.array([track_colours(i)[0] for i in range(1, 9)], float)
    assert np.linalg.norm(np.diff(first, axis=0), axis=1).min() > 80
