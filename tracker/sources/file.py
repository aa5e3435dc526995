"""A recording, with the times that it says itself, also where the frame rate varies.

Slow motion is stored as if it had been filmed at an ordinary rate; for it the true one is given.
"""

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer

from tracker.errors import SourceError
from tracker.sources.decode import frames, log, reason
from tracker.types import Frame


class Recording:
    """A video that waits for its reader."""

    live = False

    def __init__(self, name: str, container: InputContainer, fps: float | None = None) -> None:
        """Take over an open container with a video stream; `fps` is the rate it was filmed at."""
        self.name = name
        self._filmed_fps = fps
        self._container = container
        stream = container.streams.video[0]
        self.fps = float(stream.average_rate) if stream.average_rate else None
        self.frame_count: int | None = stream.frames or None

    def __iter__(self) -> Iterator[Frame]:
        count, trouble = 0, "no picture in it can be read"
        try:
            for frame in frames(self._container, self._filmed_fps):
                yield frame
                count += 1
        except av.error.FFmpegError as error:
            trouble = reason(error)
        else:
            if count and count >= (self.frame_count or 0):
                return
        if not count:
            raise undecodable(self.name, trouble)
        # What came is worth keeping: a recorder that lost power leaves such files.
        log.warning("%s breaks off after %d of %s frames", self.name, count, self.frame_count)

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


def open_file(path: Path, fps: float | None = None) -> Recording:
    """A video file; `fps` is the rate at which it was filmed, if its own times are not to be told.

    Raises:
        SourceError: it is not a video.
    """
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise undecodable(str(path), reason(error)) from error
    if not container.streams.video:
        container.close()
        raise undecodable(str(path), "it holds no pictures")
    return Recording(path.name, container, fps)


def undecodable(name: str, why: str) -> SourceError:
    return SourceError(
        f"{name} is not a video that can be decoded: {why}; check the file or convert it to MP4"
    )
