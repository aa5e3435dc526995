"""Scores against brute force, and the laws of the metrics of motion."""

import json
import sys
from itertools import permutations

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_people import law

from tracker.cli import main
from tracker.errors import TrackerError
from tracker.evaluation.files import TruthError, read_keypoints, read_people
from tracker.evaluation.identity import Pairing, identity_scores
from tracker.evaluation.motion import PARTS, Trace, motion_scores, traces
from tracker.evaluation.people import People, by_boxes, by_keypoints
from tracker.evaluation.report import compare
from tracker.sinks.records import RecordWriter
from tracker.skeleton import COCO17
from tracker.types import TrackStatus

BOX = np.array([0.0, 0.0, 10.0, 20.0])


def scene(*rows: dict[int, int]) -> dict[int, People]:
    """Frames of {id: place}: equal places overlap wholly, others not at all."""
    return {
        f: People(
            np.array(list(row), int), np.array([BOX + 100 * p for p in row.values()]).reshape(-1, 4)
        )
        for f, row in enumerate(rows)
    }


# Person 1 is followed by 7 and then by 8, person 2 by 8, nobody, 9; track 5 follows nobody.
TRUTH = scene({1: 0, 2: 1}, {1: 0, 2: 1}, {1: 0, 2: 1}, {1: 0, 2: 1}, {2: 1}, {1: 0})
ANSWER = scene({7: 0, 8: 1}, {7: 0, 8: 1}, {8: 0}, {8: 0, 9: 1}, {9: 1, 5: 6}, {})


def matches(truth, answer):
    """All (person, track) that share a place, over all frames."""
    for f in truth:
        overlap = by_boxes(truth[f], answer[f])
        for n, t in np.argwhere(overlap > 0.99):
            yield int(truth[f].ids[n]), int(answer[f].ids[t])


def count(frames, number):
    return sum(int((people.ids == number).sum()) for people in frames.values())


def test_clear_scores_are_those_counted_by_hand():
    scores = identity_scores([Pairing.of(TRUTH, ANSWER, by_boxes)])
    # 1: 7 → 8 in frame 2; 2: 8 → 9 in frame 3.
    assert scores.switches == 2
    assert (scores.people, scores.misses, scores.false) == (10, 2, 1)
    assert scores.mota == pytest.approx(1 - (2 + 1 + 2) / 10)


def test_hota_is_its_definition():
    scores = identity_scores([Pairing.of(TRUTH, ANSWER, by_boxes)])
    found = list(matches(TRUTH, ANSWER))
    detection = len(found) / (10 + 9 - len(found))
    shares = [
        found.count(pair) / (count(TRUTH, pair[0]) + count(ANSWER, pair[1]) - found.count(pair))
        for pair in found
    ]
    assert scores.detection == pytest.approx(detection)
    assert scores.association == pytest.approx(np.mean(shares))
    assert scores.hota == pytest.approx(np.sqrt(detection * np.mean(shares)))


def test_idf1_is_that_of_the_best_assignment_of_all():
    found = list(matches(TRUTH, ANSWER))
    tracks = [7, 8, 9, 5, None, None]
    best = max(
        sum(found.count((person, track)) for person, track in zip((1, 2), chosen, strict=True))
        for chosen in permutations(tracks, 2)
    )
    scores = identity_scores([Pairing.of(TRUTH, ANSWER, by_boxes)])
    assert scores.idf1 == pytest.approx(2 * best / (10 + 9))


@law
@given(data=st.data())
def test_scores_do_not_depend_on_names_or_order(data):
    names = data.draw(st.permutations([5, 7, 8, 9]))
    renamed = {
        f: People(np.array([names[[5, 7, 8, 9].index(i)] for i in p.ids], int)[::-1], p.box[::-1])
        for f, p in ANSWER.items()
    }
    before = identity_scores([Pairing.of(TRUTH, ANSWER, by_boxes)])
    assert identity_scores([Pairing.of(TRUTH, renamed, by_boxes)]) == before


def test_two_sequences_share_no_identities_and_count_by_their_people():
    one = identity_scores([Pairing.of(TRUTH, ANSWER, by_boxes)])
    both = identity_scores(
        [Pairing.of(TRUTH, ANSWER, by_boxes), Pairing.of(TRUTH, TRUTH, by_boxes)]
    )
    assert both.switches == one.switches
    assert both.people == 20
    assert both.mota == pytest.approx((one.mota + 1) / 2)


def test_the_truth_is_perfect_and_nobody_finds_nobody():
    perfect = identity_scores([Pairing.of(TRUTH, TRUTH, by_boxes)])
    assert (perfect.hota, perfect.mota, perfect.idf1, perfect.switches) == (1.0, 1.0, 1.0, 0)
    nobody = identity_scores([Pairing.of(TRUTH, {}, by_boxes)])
    assert (nobody.hota, nobody.idf1, nobody.misses) == (0.0, 0.0, 10)


def test_without_trackeval_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackeval.metrics", None)
    with pytest.raises(TrackerError, match=r"pip install 'surepose\[eval\]'"):
        identity_scores([Pairing.of(TRUTH, ANSWER, by_boxes)])


# --- motion -------------------------------------------------------------------------------------


def wander(rng: np.random.Generator, n: int) -> np.ndarray:
    """A smooth random walk of 17 keypoints."""
    velocity = np.cumsum(rng.normal(0, 1, (n, 17, 2)), axis=0)
    return np.cumsum(velocity - velocity.mean(axis=0), axis=0)


def trace(truth, estimate, std=1.0, track=None) -> Trace:
    n = len(truth)
    cov = np.broadcast_to(std**2 * np.eye(2), (n, 17, 2, 2)).copy()
    return Trace(np.arange(n), truth, estimate, cov, np.ones(n) if track is None else track, 200.0)


@law
@given(seed=st.integers(0, 2**32 - 1), delay=st.integers(0, 8))
def test_a_delayed_copy_lags_by_its_delay(seed, delay):
    truth = wander(np.random.default_rng(seed), 120)
    late = np.concatenate([np.repeat(truth[:1], delay, axis=0), truth[: len(truth) - delay]])
    assert motion_scores([trace(truth, late)]).lag == pytest.approx(delay, abs=0.5)


def test_smoothing_takes_jitter_and_pays_with_lag():
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.zeros((100, 17, 2)), wander(rng, 200)])
    noisy = truth + rng.normal(0, 2, truth.shape)
    smooth = np.zeros_like(noisy)
    for i in range(1, len(noisy)):
        smooth[i] = 0.8 * smooth[i - 1] + 0.2 * noisy[i]
    raw, late = motion_scores([trace(truth, noisy)]), motion_scores([trace(truth, smooth)])
    assert late.jitter_at_rest < raw.jitter_at_rest / 3
    assert late.lag > raw.lag + 2


@pytest.mark.parametrize("std", [0.5, 3.0])
def test_white_errors_have_the_scores_that_theory_says(std):
    rng, n = np.random.default_rng(1), 2000
    truth = np.zeros((n, 17, 2))
    scores = motion_scores([trace(truth, rng.normal(0, std, truth.shape), std)])
    many = 5 / np.sqrt(
        17 * n
    )  # five standard errors, relative; neighbours' differences share noise
    assert scores.rmse == pytest.approx(std * np.sqrt(2), rel=many)
    assert scores.acceleration_error == pytest.approx(std * np.sqrt(6 * np.pi / 2), rel=2 * many)
    assert scores.jitter_at_rest == pytest.approx(std * np.sqrt(12), rel=2 * many)
    assert scores.nees == pytest.approx(1, rel=many)
    assert scores.coverage_95 == pytest.approx(0.95, abs=0.25 * many)
    bold = motion_scores([trace(truth, rng.normal(0, 2 * std, truth.shape), std)])
    assert bold.nees == pytest.approx(4, rel=many)


def test_error_bars_that_fail_late_are_found_late():
    rng, n = np.random.default_rng(2), 400
    truth = np.zeros((n, 17, 2))
    std = np.where(np.arange(n) < n // 2, 1.0, 3.0)[:, None, None]
    over_time = motion_scores(
        [trace(truth, std * rng.normal(size=truth.shape))]
    ).coverage_95_over_time
    assert len(over_time) == PARTS
    assert min(over_time[: PARTS // 2]) > 0.9 > 0.6 > max(over_time[PARTS // 2 :])


def test_a_jump_to_another_track_is_no_acceleration():
    truth = np.zeros((10, 17, 2))
    told = truth + np.where(np.arange(10) < 5, 0.0, 9.0)[:, None, None]
    changed = np.where(np.arange(10) < 5, 1.0, 2.0)
    assert motion_scores([trace(truth, told, track=changed)]).acceleration_error == 0
    assert motion_scores([trace(truth, told)]).acceleration_error > 1


def test_nobody_followed_has_no_scores():
    scores = motion_scores([])
    assert np.isnan(scores.rmse)
    assert scores.keypoints == 0


def test_traces_follow_people_and_skip_what_nobody_labelled():
    body = fakes.person(100)
    box = np.array([np.concatenate([body.min(axis=0), body.max(axis=0)])])
    labelled = np.ones((1, 17), bool)
    labelled[0, :5] = False
    truth = {f: People(np.array([4]), box, body[None], labelled) for f in (0, 2, 4)}
    answer = {f: People(np.array([1]), box, body[None] + 1) for f in (0, 1, 2)}
    (one,) = traces(truth, answer)
    assert one.frame.tolist() == [0, 2, 4]
    assert np.isnan(one.truth[0, :5]).all()
    assert np.isnan(one.estimate[2]).all()
    scores = motion_scores([one])
    assert scores.keypoints == 24
    assert scores.rmse == pytest.approx(np.sqrt(2))


# --- files --------------------------------------------------------------------------------------


def posetrack(path, names, bodies) -> None:
    """Labels in the order of some names; keypoints that are not named are left out."""
    annotations = []
    for image, body in bodies:
        flat = [
            v
            for name in names
            for v in (
                [*body[COCO17.keypoint_names.index(name)], 2]
                if name in COCO17.keypoint_names
                else [1.0, 1.0, 2]
            )
        ]
        low, high = body.min(axis=0), body.max(axis=0)
        annotations.append(
            {"image_id": image, "track_id": 3, "keypoints": flat, "bbox": [*low, *(high - low)]}
        )
    told = {
        "images": [{"id": 100 + i, "file_name": f"clip/{i:06}.jpg"} for i in range(3)],
        "annotations": annotations,
        "categories": [{"keypoints": names}],
    }
    path.write_text(json.dumps(told))


def test_keypoints_are_found_by_their_names(tmp_path):
    names = ["head_top", *reversed(COCO17.keypoint_names[3:])]
    posetrack(tmp_path / "labels.json", names, [(101, fakes.person(50))])
    read = read_keypoints(tmp_path / "labels.json")
    assert [len(read[f]) for f in (0, 1, 2)] == [0, 1, 0]
    assert read[1].labelled[0].tolist() == [False] * 3 + [True] * 14
    np.testing.assert_allclose(read[1].keypoints[0, 3:], fakes.person(50)[3:])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{}", "is no COCO keypoint file"),
        ("a.json", "no", "is no COCO keypoint file"),
        ("a.txt", "1,2,3\n", "line 1: due frame,id"),
        ("a.txt", "1,1,x,2,3,4,1\n", "line 1: due frame,id"),
        ("a.csv", "frame,x\n", "is no table of tracks"),
        ("a.mp4", "", "must end in .csv, .txt or .json"),
    ],
)
def test_a_file_of_another_kind_is_told(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(TrackerError, match=message):
        read_people(tmp_path / name)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(TruthError, match="No such file"):
        read_people(tmp_path / "gt.txt")


@pytest.fixture
def table(tmp_path):
    """A table of one person who is seen, and predicted in the last frame."""
    path = tmp_path / "tracks.csv"
    with RecordWriter(path) as writer:
        for i, status in enumerate([TrackStatus.CONFIRMED] * 5 + [TrackStatus.LOST]):
            track = fakes.make_track(fakes.person(100 + 3 * i), status=status)
            writer.write(fakes.tracked(track, index=i))
    return path


def test_the_command_judges_a_table(tmp_path, table, capsys):
    posetrack(
        tmp_path / "labels.json",
        list(COCO17.keypoint_names),
        [(100 + i, fakes.person(102 + 3 * i)) for i in range(3)],
    )
    out = tmp_path / "scores.json"
    assert main(["eval", str(tmp_path / "labels.json"), str(table), "--json", str(out)]) == 0
    told = capsys.readouterr().out
    for word in ("HOTA", "IDF1", "acceleration error", "NEES", "95 %"):
        assert word in told
    scores = json.loads(out.read_text())
    assert scores["keypoints"]["switches"] == 0
    assert scores["motion"]["rmse"] == pytest.approx(2, abs=1e-3)
    assert scores["motion"]["jitter_at_rest"] is None


def test_a_prediction_is_no_answer(table):
    assert sorted(read_people(table)) == [0, 1, 2, 3, 4]
    report = compare(read_people(table), read_people(table))
    assert report.motion is not None
    assert (report.boxes.hota, report.motion.rmse) == (1.0, 0.0)


def test_boxes_alone_are_compared_by_boxes(tmp_path, table):
    (tmp_path / "gt.txt").write_text("1,1,70,60,60,300,1\n")
    report = compare(read_people(tmp_path / "gt.txt"), read_people(table))
    assert report.keypoints is None
    assert report.motion is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty.txt", "tracks.csv"], "tells of nobody"),
        (["tracks.csv", "missing.csv"], "cannot read missing.csv"),
        (["tracks.csv", "tracks.csv", "--json", "tracks.csv"], "is also an input"),
        (["tracks.csv", "tracks.csv", "--json", "no/where.json"], "cannot write no/where.json"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(
    tmp_path, table, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    assert main(["eval", *arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith("surepose: error: ")
    assert told.count("\n") == 1
    assert message in told


def test_keypoints_need_both_sides():
    with pytest.raises(ValueError, match="must have keypoints"):
        by_keypoints(TRUTH[0], ANSWER[0])
