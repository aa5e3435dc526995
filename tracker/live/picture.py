"""A result as a JPEG, with its tracks drawn on it."""

from functools import lru_cache

import cv2

from tracker.overlay import draw
from tracker.types import TrackedFrame

_QUALITY = 80


@lru_cache(maxsize=16)  # several viewers look at the same pictures
def jpeg(tracked: TrackedFrame, most_width: int) -> bytes:
    """The picture, no wider than that, px."""
    image = draw(tracked)
    height, width = image.shape[:2]
    if width > most_width:
        size = most_width, max(1, round(height * most_width / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return data.tobytes()
