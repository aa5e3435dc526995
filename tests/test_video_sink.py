import os
import shutil
from dataclasses import replace
from pathlib import Path

import av
import fakes
import numpy as np
import pytest

from tracker.errors import SinkError
from tracker.overlay import draw
from tracker.sinks.base import Sink, SinkClosed
from tracker.sinks.video import VideoWriter
from tracker.sinks.window import Window
from tracker.types import TrackedFrame


def clip(times: np.ndarray, height: int = 96, width: int = 128) -> list[TrackedFrame]:
    track = fakes.make_track(fakes.person(60, top=5, height=80), std=1.0)
    return [
        TrackedFrame(replace(fakes.frame(i, height=height, width=width), time=float(t)), (track,))
        for i, t in enumerate(times)
    ]


def decoded(path: Path) -> tuple[list[float], list[np.ndarray]]:
    times, images = [], []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                times.append(frame.time)
                images.append(frame.to_ndarray(format="rgb24"))
        except av.error.InvalidDataError:  # the torn end of a file that was never closed
            pass
    return times, images


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_video_keeps_the_pictures_and_their_capture_times(tmp_path, suffix, capfd):
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 20))
    times -= times[0]
    frames = clip(times)
    with VideoWriter(tmp_path / f"people{suffix}") as writer:
        for frame in frames:
            writer.write(frame)
    got, images = decoded(tmp_path / f"people{suffix}")
    np.testing.assert_allclose(got, times, atol=6e-4)  # Matroska counts milliseconds
    assert images[0].shape == (96, 128, 3)
    # Colours are stored at half resolution, so thin lines bleed: compare in the mean.
    assert np.abs(images[7].astype(float) - draw(frames[7])).mean() < 4
    assert capfd.readouterr().err == ""


def test_a_video_that_was_never_closed_can_be_played(tmp_path):
    frames = clip(np.arange(100) / 30)
    writer = VideoWriter(tmp_path / "people.mp4", fps=10.0)
    for frame in frames:
        writer.write(frame)
    shutil.copy(tmp_path / "people.mp4", tmp_path / "torn.mp4")
    writer.close()
    times, _ = decoded(tmp_path / "torn.mp4")
    assert len(times) > 40
    assert len(decoded(tmp_path / "people.mp4")[0]) == 100


def test_a_finished_mp4_is_an_ordinary_one(tmp_path):
    with VideoWriter(tmp_path / "people.mp4") as writer:
        for frame in clip(np.arange(40) / 30):
            writer.write(frame)
    data = (tmp_path / "people.mp4").read_bytes()
    assert b"moov" in data
    with av.open(str(tmp_path / "people.mp4")) as container:
        assert container.duration == pytest.approx(40 / 30 * 1e6, rel=0.05)


def test_equal_times_odd_sizes_and_a_changing_picture_are_taken(tmp_path):
    frames = clip(np.array([0.0, 0.0, 0.1]), height=97, width=127)
    frames += clip(np.array([0.2]), height=240, width=320)
    with VideoWriter(tmp_path / "people.mp4") as writer:
        for frame in frames:
            writer.write(frame)
    times, images = decoded(tmp_path / "people.mp4")
    assert times == sorted(set(times))
    assert {image.shape for image in images} == {(96, 126, 3)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/people.mp4", "No such file"),
        ("folder.mp4", "Is a directory"),
        ("people.gif", r"must end in \.mp4"),
    ],
)
def test_an_unwritable_video_is_told_before_the_first_frame(tmp_path, name, reason):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(SinkError, match=reason):
        VideoWriter(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "people.mkv"
    path.symlink_to("/dev/full")

    def run() -> None:
        with VideoWriter(path) as writer:
            for frame in clip(np.arange(30) / 30):
                writer.write(frame)

    with pytest.raises(SinkError, match=r"people\.mkv: No space left on device"):
        run()


def test_a_video_without_frames_closes(tmp_path):
    VideoWriter(tmp_path / "people.mp4").close()


def test_a_window_without_a_display_says_what_to_do(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match=r"no display.*--save"):
        Window()


class FakeScreen:
    """The few calls of cv2's windows, with a user at the keyboard."""

    error = RuntimeError
    WINDOW_NORMAL = WINDOW_KEEPRATIO = 0
    WND_PROP_VISIBLE = 4
    COLOR_RGB2BGR = 4

    def __init__(self, keys: list[int], shut_after: int = 10**9) -> None:
        self.keys, self.shut_after, self.shown, self.open = keys, shut_after, [], False

    def namedWindow(self, *_: object) -> None:  # noqa: N802
        self.open = True

    def resizeWindow(self, *_: object) -> None: ...  # noqa: N802

    def cvtColor(self, image: np.ndarray, _: int) -> np.ndarray:  # noqa: N802
        return image[..., ::-1]

    def imshow(self, _: str, image: np.ndarray) -> None:
        self.shown.append(image)

    def waitKey(self, _: int) -> int:  # noqa: N802
        return self.keys.pop(0) if self.keys else -1

    def getWindowProperty(self, *_: object) -> float:  # noqa: N802
        return 1.0 if self.open and len(self.shown) < self.shut_after else 0.0

    def destroyWindow(self, _: str) -> None:  # noqa: N802
        assert self.open
        self.open = False


@pytest.mark.parametrize(
    "screen",
    [FakeScreen([-1, -1, ord("q")]), FakeScreen([-1, -1, 27]), FakeScreen([], shut_after=3)],
    ids=["q", "Esc", "closed"],
)
def test_the_user_ends_the_run_at_the_window(monkeypatch, screen):
    monkeypatch.setitem(os.environ, "DISPLAY", ":0")
    monkeypatch.setattr("tracker.sinks.window.cv2", screen)
    frames = clip(np.arange(5) / 30)
    with Window() as window:
        assert isinstance(window, Sink)
        window.write(frames[0])
        window.write(frames[1])
        with pytest.raises(SinkClosed):
            window.write(frames[2])
    np.testing.assert_array_equal(screen.shown[1][..., ::-1], draw(frames[1]))
