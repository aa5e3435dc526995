"""A pinhole camera that stands still.

The world has x to the right, y away from the viewer, z up, in metres, with the floor at z = 0. The
camera has x to the right, y down, z ahead. Pictures follow the project's rule of pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    camera_from_world: Float[np.ndarray, "3 3"]
    position: Float[np.ndarray, "3"]
    """In the world, m."""
    focal: float
    """px."""
    width: int
    height: int

    @classmethod
    def standing(
        cls, camera_height: float, pitch: float, focal: float, width: int, height: int
    ) -> "Camera":
        """Above the origin, looking along y and down by `pitch` (rad)."""
        sin, cos = np.sin(pitch), np.cos(pitch)
        turn = np.array([[1.0, 0.0, 0.0], [0.0, -sin, -cos], [0.0, cos, -sin]])
        return cls(turn, np.array([0.0, 0.0, camera_height]), focal, width, height)

    def points(self, world: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """Where points of the world are, as the camera has them, m."""
        return (world - self.position) @ self.camera_from_world.T

    def project(self, point: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 2"]:
        """The image (px) of points in the camera's frame; those behind it are not caught here."""
        centre = np.array([self.width, self.height]) / 2
        return self.focal * point[..., :2] / point[..., 2:] + centre

    def rays(
        self, x: Float[np.ndarray, " w"], y: Float[np.ndarray, " h"]
    ) -> Float[np.ndarray, "h w 3"]:
        """Directions in the world through image positions, one metre deep along the axis."""
        ahead = np.stack(
            np.broadcast_arrays(
                (x - self.width / 2)[None] / self.focal,
                (y - self.height / 2)[:, None] / self.focal,
                1.0,
            ),
            axis=-1,
        )
        return ahead @ self.camera_from_world
