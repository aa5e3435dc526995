"""Round surfaces, drawn with shade, soft edges and exact ownership of every pixel.

Everything is in the camera's frame: x right, y down, z ahead, metres. A surface becomes a patch:
how much of each pixel it covers, how far it is, its colour. Patches are laid onto a canvas nearly
from far to near; a depth test per pixel settles what is in front.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int16

from tracker.demo.camera import Camera

NOBODY = -1
_NEAR = 0.3
"""Nothing closer than this is drawn, m."""
_BLEND = 0.02
"""Surfaces that meet melt into one another over this depth, m."""
_ALONG = np.linspace(0, 1, 160)

Texture = Float32[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, slots=True, eq=False)
class Limb:
    """A round stick of elliptical section whose half-widths change along its axis."""

    start: Float[np.ndarray, "3"]
    end: Float[np.ndarray, "3"]
    side: Float[np.ndarray, "3"]
    """The direction, across the axis, in which `wide` is measured."""
    wide: Float[np.ndarray, " n"]
    deep: Float[np.ndarray, " n"]
    """Half-widths from start to end, m."""
    texture: Texture
    """Rows from start to end; columns once around from the front, which lies at side × axis."""
    cut: bool = False
    """End flat, as a hem does, instead of round."""


@dataclass(frozen=True, slots=True, eq=False)
class Ball:
    """An ellipsoid."""

    centre: Float[np.ndarray, "3"]
    turn: Float[np.ndarray, "3 3"]
    """Columns are its own axes: ahead, left, up."""
    axes: Float[np.ndarray, "3"]
    """Half-lengths, m."""
    texture: Texture
    """Rows from top to bottom; columns once around, the front in the middle."""


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """Far light and light from everywhere; a shade of 1 shows a texture as it is."""

    direction: Float[np.ndarray, "3"]
    """From the surface to the light, camera frame."""
    strength: float
    ambient: float
    tint: Float[np.ndarray, "3"]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What one surface shows of itself in a part of the picture."""

    rows: slice
    columns: slice
    cover: Float32[np.ndarray, "h w"]
    """Share of each pixel, in [0, 1]."""
    depth: Float32[np.ndarray, "h w"]
    """m, along the camera's axis."""
    colour: Float32[np.ndarray, "h w 3"]
    """0 to 255."""


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """The picture in the making; its arrays are written to."""

    colour: Float32[np.ndarray, "height width 3"]
    depth: Float32[np.ndarray, "height width"]
    owner: Int16[np.ndarray, "height width"]
    """Whose surface is in front at each pixel; NOBODY for the scenery."""

    def lay(self, patch: Patch, owner: int) -> None:
        """Blend a patch over what lies behind it."""
        at = patch.rows, patch.columns
        behind = (self.depth[at] - patch.depth) * np.float32(1 / _BLEND)
        # Only a body melts into itself; between bodies, and at its rim, the test is sharp.
        own = self.owner[at] == owner
        front = np.where(own, np.clip(behind + np.float32(0.5), 0, 1), behind > 0)
        alpha = patch.cover * front
        colour = self.colour[at]
        colour += alpha[..., None] * (patch.colour - colour)
        over = (alpha > 0.5) & (behind > 0)
        np.copyto(self.depth[at], patch.depth, where=over)
        np.copyto(self.owner[at], np.int16(owner), where=over)


def draw(surface: Limb | Ball, camera: Camera, light: Light) -> Patch | None:
    """The patch of a surface; None when the picture holds nothing of it."""
    if isinstance(surface, Limb):
        return _draw_limb(surface, camera, light)
    return _draw_ball(surface, camera, light)


def silhouette(patches: list[Patch], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The pixels that some surfaces cover together, whatever may be in front of them."""
    mask = np.zeros((height, width), dtype=bool)
    for patch in patches:
        mask[patch.rows, patch.columns] |= patch.cover > 0.5
    return mask


def darken_creases(canvas: Canvas, reach: float) -> None:
    """Shade pixels of bodies that have something closer beside them, as blocked light does.

    Unsharp masking of the depth (Luft, Colditz, Deussen 2006).
    """
    height, width = canvas.depth.shape
    small = cv2.resize(canvas.depth, (width // 2, height // 2), interpolation=cv2.INTER_NEAREST)
    near = cv2.GaussianBlur(np.minimum(small, 12), (0, 0), reach / 2)
    gap = np.clip(small - near, 0, 0.25) * (0.9 / 0.25)
    dark = cv2.resize(1 - 0.45 * gap, (width, height), interpolation=cv2.INTER_LINEAR)
    body = canvas.owner != NOBODY
    canvas.colour[body] *= dark[body, None]


def _draw_limb(limb: Limb, camera: Camera, light: Light) -> Patch | None:
    if min(limb.start[2], limb.end[2]) < _NEAR:
        return None
    axis = limb.end - limb.start
    across, towards = _facing(axis, (limb.start + limb.end) / 2)
    steps = np.arange(len(limb.wide)) / (len(limb.wide) - 1)
    wide, deep = np.interp(_ALONG, steps, limb.wide), np.interp(_ALONG, steps, limb.deep)
    unit = axis / max(float(np.linalg.norm(axis)), 1e-9)
    front = _cross(limb.side, unit)
    reach = np.hypot(wide * (across @ limb.side), deep * (across @ front))
    rise = np.hypot(wide * (towards @ limb.side), deep * (towards @ front))
    z = limb.start[2] + _ALONG * axis[2]
    radius = np.maximum(reach * camera.focal / z, 0.35)  # px; thinner would vanish

    a, b = camera.project(np.stack([limb.start, limb.end]))
    most = radius.max() + 1
    window = _window(np.minimum(a, b) - most, np.maximum(a, b) + most, camera)
    if window is None:
        return None
    rows, columns, x, y = window
    x, y = x - np.float32(a[0]), y - np.float32(a[1])
    dx, dy = (b - a).astype(np.float32)
    square = max(float(dx * dx + dy * dy), 1e-4)
    t_free = (x * np.float32(dx / square))[None] + (y * np.float32(dy / square))[:, None]
    t = np.clip(t_free, 0, 1)
    row = t * np.float32(len(_ALONG) - 1)
    at = (row + np.float32(0.5)).astype(np.intp)
    r = radius.astype(np.float32)[at]
    qx, qy = x[None] - t * dx, y[:, None] - t * dy
    distance = np.sqrt(qx * qx + qy * qy)
    cover = np.clip(r - distance + np.float32(0.5), 0, 1)
    if limb.cut:
        length = np.float32(np.sqrt(square))
        cover *= np.clip((1 - t_free) * length + np.float32(0.5), 0, 1)
        cover *= np.clip(t_free * length + np.float32(0.5), 0, 1)
    inside = np.minimum(distance / r, 1)
    bulge = np.sqrt(1 - inside * inside)
    depth = z.astype(np.float32)[at] - (rise * -towards[2]).astype(np.float32)[at] * bulge

    flat = across[:2] / max(float(np.hypot(*across[:2])), 1e-9)
    u = np.clip((qx * np.float32(flat[0]) + qy * np.float32(flat[1])) / r, -1, 1)
    shade = _shade(light, [(u, across), (bulge, towards)], bulge)

    # Columns count the angle from `front` towards `side`; sight moves along it as u does.
    here = np.arctan2(towards @ limb.side, towards @ front)
    sense = np.sign(
        (across @ limb.side) * (towards @ front) - (across @ front) * (towards @ limb.side)
    )
    height, width = limb.texture.shape[:2]
    angle = np.float32(here) + np.float32(sense) * np.arcsin(u)
    column = angle * np.float32(width / (2 * np.pi)) + np.float32(2 * width)
    colour = cv2.remap(
        limb.texture,
        column,
        t * np.float32(height - 1),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return Patch(rows, columns, cover, depth, colour * _tinted(shade, light))


def _draw_ball(ball: Ball, camera: Camera, light: Light) -> Patch | None:
    if ball.centre[2] < _NEAR + ball.axes.max():
        return None
    # Parallel rays suffice for a ball that is small against its distance.
    sight = ball.centre / np.linalg.norm(ball.centre)
    inverse = ball.turn.T / ball.axes[:, None]  # body axes, as a unit sphere, from camera
    scale = camera.focal / ball.centre[2]
    middle = camera.project(ball.centre)
    most = scale * ball.axes.max() * 1.05 + 1
    window = _window(middle - most, middle + most, camera)
    if window is None:
        return None
    rows, columns, x, y = window
    x, y = (x - np.float32(middle[0])) / scale, (y - np.float32(middle[1])) / scale
    o = (x[None, :, None] * inverse[:, 0] + y[:, None, None] * inverse[:, 1]).astype(np.float32)
    v = (inverse @ sight).astype(np.float32)
    vv = v @ v
    ov = o @ v
    square = np.maximum((o * o).sum(axis=-1) - ov * ov / vv, 1e-9)  # 1 on the rim
    root = np.sqrt(square)
    distance = np.hypot(x[None], y[:, None]) * np.float32(scale)
    cover = np.clip((1 - root) * distance / root + np.float32(0.5), 0, 1)
    bulge = np.sqrt(np.clip(1 - square, 0, 1))
    travel = -ov / vv - bulge / np.sqrt(vv)
    hit = o + travel[..., None] * v  # on the unit sphere
    depth = (ball.centre[2] + travel * sight[2]).astype(np.float32)

    normal = (hit / ball.axes.astype(np.float32)) @ ball.turn.T.astype(np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + np.float32(1e-9)
    shade = _shade(light, [(normal[..., i], np.eye(3)[i]) for i in range(3)], bulge)

    height, width = ball.texture.shape[:2]
    longitude = np.arctan2(-hit[..., 1], hit[..., 0])
    latitude = np.arccos(np.clip(hit[..., 2], -1, 1))
    colour = cv2.remap(
        ball.texture,
        (longitude * np.float32(0.5 / np.pi) + np.float32(0.5)) * np.float32(width - 1),
        latitude * np.float32((height - 1) / np.pi),
        cv2.INTER_LINEAR,
    )
    return Patch(rows, columns, cover.astype(np.float32), depth, colour * _tinted(shade, light))


def _facing(
    axis: Float[np.ndarray, "3"], place: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Unit vectors across an axis: one in the picture's plane, one towards the camera."""
    across = _cross(axis, place)
    size = float(np.linalg.norm(across))
    across = np.array([1.0, 0.0, 0.0]) if size < 1e-9 else across / size
    towards = _cross(across, axis)
    size = float(np.linalg.norm(towards))
    towards = np.array([0.0, 0.0, -1.0]) if size < 1e-9 else towards / size
    return across, towards * (-1.0 if towards @ place > 0 else 1.0)


def _cross(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """The vector product; np.cross takes ten times as long, sorting out its axes."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _shade(
    light: Light,
    parts: list[tuple[Float32[np.ndarray, "h w"], Float[np.ndarray, "3"]]],
    bulge: Float32[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w"]:
    """Half-Lambert light and sky on the normal Σ part · direction, a little less at the rim."""
    pull = light.strength * light.direction + np.array([0.0, -0.12, 0.0])
    shade = light.ambient + sum(part * np.float32(way @ pull) for part, way in parts)
    return np.clip(shade, 0.22, 1.35) * (np.float32(0.8) + np.float32(0.2) * bulge)


def _tinted(shade: Float32[np.ndarray, "h w"], light: Light) -> Float32[np.ndarray, "h w 3"]:
    return shade[..., None] * light.tint.astype(np.float32)


def _window(
    low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"], camera: Camera
) -> tuple[slice, slice, Float32[np.ndarray, " w"], Float32[np.ndarray, " h"]] | None:
    """The part of the picture between two corners, and its pixel centres."""
    size = np.array([camera.width, camera.height])
    x0, y0 = np.clip(np.floor(low), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(high), 0, size).astype(int)
    if x0 >= x1 or y0 >= y1:
        return None
    x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5)
    y = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5)
    return slice(y0, y1), slice(x0, x1), x, y
