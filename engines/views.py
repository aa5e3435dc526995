"""Parts of pictures, cut out on the device: a picture is uploaded once, however many look at it.

The same pixels as OpenCV's `warpAffine` on the CPU: bilinear, a constant outside, whole steps
averaged first where a picture shrinks. (0, 0) is the corner of the corner pixel, centres lie at
half-integers, which is what `grid_sample` calls align_corners=False.
"""

import threading
from collections.abc import Sequence
from functools import cache
from itertools import groupby

import numpy as np
import torch
from torch.nn import functional

Place = tuple[np.ndarray, np.ndarray]
"""A picture (rows, columns, 3) uint8 and the map image_from_view (2, 3), px to px."""

_KEPT = 16
"""Newest pictures that stay on the device, one for each of so many streams. They are told apart by
identity: a picture must not be written over."""


class Views:
    """Pictures and maps in, a batch of planes on the device out."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._uploaded: list[tuple[np.ndarray, torch.Tensor]] = []
        self._lock = threading.Lock()

    def __call__(
        self, places: Sequence[Place], height: int, width: int, outside: int
    ) -> torch.Tensor:
        """Planes (B, 3, height, width) in 0..255, `outside` beyond the pictures."""
        if not places:
            return torch.zeros((0, 3, height, width), device=self._device)
        with torch.inference_mode():
            return torch.cat(
                [
                    self._look(list(group), height, width, outside, step)
                    for (_, step), group in groupby(
                        places, lambda place: (id(place[0]), _step(*place))
                    )
                ]
            )

    def _look(
        self, places: list[Place], height: int, width: int, outside: int, step: int
    ) -> torch.Tensor:
        picture = self._upload(places[0][0]) - float(outside)  # zero beyond the border
        if step > 1:
            picture = functional.avg_pool2d(picture, step, ceil_mode=True, count_include_pad=False)
        rows, columns = picture.shape[-2:]
        small = torch.tensor([columns, rows], dtype=torch.float64)
        maps = torch.from_numpy(np.stack([image_from_view for _, image_from_view in places]))
        # Both sides of grid_sample's maps run over -1..1.
        size = torch.tensor([width, height], dtype=torch.float64)
        linear = maps[:, :, :2] * size / (step * small[:, None])
        centre = maps[:, :, :2] @ (size / 2) + maps[:, :, 2]
        offset = centre * 2 / (step * small) - 1
        theta = torch.cat([linear, offset[..., None]], dim=2).float().to(self._device)
        grid = functional.affine_grid(theta, [len(places), 3, height, width], align_corners=False)
        seen = functional.grid_sample(
            picture.expand(len(places), -1, -1, -1), grid, align_corners=False
        )
        # Whole levels, as cameras and the networks' training know them.
        return (seen + float(outside)).round_().clamp_(0, 255)

    def _upload(self, picture: np.ndarray) -> torch.Tensor:
        """Planes (1, 3, rows, columns) of a picture, from the device if it is there."""
        with self._lock:
            for known, planes in self._uploaded:
                if known is picture:
                    return planes
            levels = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device)
            planes = levels.permute(2, 0, 1)[None].float()
            self._uploaded = [(picture, planes), *self._uploaded[: _KEPT - 1]]
            return planes


def _step(picture: np.ndarray, image_from_view: np.ndarray) -> int:
    """Pixels of the picture that are averaged to one before it is sampled."""
    shrinkage = np.sqrt(abs(np.linalg.det(image_from_view[:, :2])))
    return max(1, int(min(shrinkage, *picture.shape[:2])))


@cache
def views_on(device: str) -> Views:
    """The one of a device, so that all networks there share what was uploaded."""
    return Views(device)
