"""Tracks as an overlay video: H.264 with the true capture times.

The file can be played however the run ends: frames are written in short closed pieces, and a
normal end joins them into an ordinary mp4.
"""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream

from tracker.errors import SinkError
from tracker.overlay import draw
from tracker.sinks.base import Sink, writing
from tracker.skeleton import COCO17, Skeleton
from tracker.types import TrackedFrame

TICK = Fraction(1, 90_000)
"""Clock of the presentation times, s: the one of MPEG, fine enough for any camera."""

SUFFIXES = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Names that a video may end in, and FFmpeg's names of their formats."""


class VideoWriter(Sink):
    """Draws each frame's tracks and appends it; what is there is replaced.

    The first frame sets the size of the picture; later ones are scaled to it.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: float | None = None,
        slow_motion: float = 1.0,
        skeleton: Skeleton = COCO17,
    ) -> None:
        """
        Args:
            path: Ends in one of `SUFFIXES`.
            fps: Nominal frames a second.
            slow_motion: How many times slower than the capture times it is played.
            skeleton: Of the tracks.
        """
        self.path = Path(path)
        self._slow_motion = slow_motion
        self._skeleton = skeleton
        self._rate = Fraction(fps or 30).limit_denominator(1001)
        self._stream: VideoStream | None = None
        self._last_pts = -1
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise SinkError(
                f"cannot save a video as {path}: the name must end in {', '.join(SUFFIXES)}"
            )
        # Pieces go to the system as soon as they are closed; Matroska is made of pieces anyway.
        options = {"flush_packets": "1"}
        if suffix != ".mkv":
            options["movflags"] = "hybrid_fragmented"
        with writing(path):
            self._file = self.path.open("wb", buffering=0)
        self._container = av.open(self._file, "w", format=SUFFIXES[suffix], options=options)

    def write(self, tracked: TrackedFrame) -> None:
        image = draw(tracked, self._skeleton)
        height, width = (size // 2 * 2 for size in image.shape[:2])  # yuv420p halves the colours
        if self._stream is None:
            self._stream = self._open_stream(width, height)
        # Odd pictures lose their last row or column: scaling would blur all of them.
        frame = av.VideoFrame.from_ndarray(image[:height, :width], format="rgb24").reformat(
            self._stream.width, self._stream.height, "yuv420p"
        )
        # Two frames may share a capture time (a clock of milliseconds); a video's may not.
        shown = tracked.frame.time * self._slow_motion
        self._last_pts = max(round(shown / TICK), self._last_pts + 1)
        frame.pts, frame.time_base = self._last_pts, TICK
        self._mux(self._stream, frame)

    def close(self) -> None:
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                self._mux(stream, None)
                with writing(self.path):
                    self._container.close()
        finally:
            with suppress(OSError, av.FFmpegError):  # whatever is wrong by now has been told
                self._container.close()
            self._file.close()

    def _mux(self, stream: VideoStream, frame: av.VideoFrame | None) -> None:
        try:
            with writing(self.path):
                self._container.mux(stream.encode(frame))
        except SinkError:
            self._stream = None
            raise

    def _open_stream(self, width: int, height: int) -> VideoStream:
        # No B-frames: they shift an mp4's times by their delay. A key frame a second: a crash
        # costs at most the piece since the last one.
        options = {
            "crf": "20",
            "preset": "veryfast",
            "bf": "0",
            "g": str(max(1, round(self._rate))),
        }
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = TICK
        return stream
