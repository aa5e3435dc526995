"""A folder of images, in the order in which people number them."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from tracker.errors import SourceError
from tracker.types import Frame

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class Folder:
    """The images of a folder; they carry no times, so that a frame rate spaces them."""

    live = False

    def __init__(self, path: Path, fps: float | None = None) -> None:
        """Without a rate it is taken to be 25."""
        self.name = path.name or str(path)
        self._rate = fps or 25.0
        self.fps: float | None = self._rate
        self.paths = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()),
            key=lambda p: natural(p.name),
        )
        if not self.paths:
            raise SourceError(
                f"no images in {path}; expected files ending in {', '.join(SUFFIXES)}"
            )

    @property
    def frame_count(self) -> int | None:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        for i, path in enumerate(self.paths):
            yield Frame(_read(path), i, i / self._rate)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2.jpg before 10.jpg."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part.lower())
        for part in re.split(r"([0-9]+)", name)
        if part
    ]


def _read(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    # By way of bytes: cv2.imread prints its own warnings, and fails on some names.
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise SourceError(
            f"cannot decode {path} as an image; repair it or take it out of the folder"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
