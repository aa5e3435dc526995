"""Where the people are: a floor, a wall with things on it, and solid boxes that may hide people.

All of it stands still, so it is traced once per scene, at twice the resolution.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from tracker.demo.camera import Camera
from tracker.demo.render import Light, Patch

_FINE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A box that stands on the floor or hangs above it, with faces along the axes."""

    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    colour: Float[np.ndarray, "3"]


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    colour: Float32[np.ndarray, "height width 3"]
    depth: Float32[np.ndarray, "height width"]
    floor: Bool[np.ndarray, "height width"]


def trace(camera: Camera, wall: float, light: Light, rng: np.random.Generator) -> Backdrop:
    """The floor and the wall at y = `wall` (m)."""
    rays = camera.rays(
        (np.arange(_FINE * camera.width) + 0.5) / _FINE,
        (np.arange(_FINE * camera.height) + 0.5) / _FINE,
    ).astype(np.float32)
    position = camera.position.astype(np.float32)
    to_wall = wall / np.maximum(rays[..., 1], 1e-4)
    to_floor = np.where(rays[..., 2] < -1e-5, -position[2] / np.minimum(rays[..., 2], -1e-5), 1e6)
    floor = to_floor < to_wall
    depth = np.minimum(to_floor, to_wall)
    hit = position + depth[..., None] * rays
    cloud = _clouds(rng)
    colour = np.where(floor[..., None], _floor(hit, wall, cloud, rng), _wall(hit, cloud, rng)) * (
        light.tint * (0.82 + 0.3 * light.strength)
    ).astype(np.float32)
    small = (camera.width, camera.height)
    return Backdrop(
        np.clip(cv2.resize(colour, small, interpolation=cv2.INTER_AREA), 0, 255),
        depth[::_FINE, ::_FINE].copy(),
        floor[::_FINE, ::_FINE].copy(),
    )


def trace_block(
    block: Block, camera: Camera, light: Light, rng: np.random.Generator
) -> Patch | None:
    """A block by itself, exactly (slab method), or None outside the picture."""
    corners = np.array(
        [
            [x, y, z]
            for x in (block.low[0], block.high[0])
            for y in (block.low[1], block.high[1])
            for z in (block.low[2], block.high[2])
        ]
    )
    at = camera.points(corners)
    if at[:, 2].min() < 0.2:
        return None
    xy = camera.project(at)
    size = np.array([camera.width, camera.height])
    x0, y0 = np.clip(np.floor(xy.min(axis=0)) - 1, 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(xy.max(axis=0)) + 1, 0, size).astype(int)
    if x0 >= x1 or y0 >= y1:
        return None
    height, width = int(y1 - y0), int(x1 - x0)
    rays = camera.rays(
        x0 + (np.arange(_FINE * width) + 0.5) / _FINE,
        y0 + (np.arange(_FINE * height) + 0.5) / _FINE,
    )
    rays = np.where(np.abs(rays) < 1e-6, 1e-6, rays)
    one, two = (block.low - camera.position) / rays, (block.high - camera.position) / rays
    enter, leave = np.minimum(one, two), np.maximum(one, two).min(axis=-1)
    axis = enter.argmax(axis=-1)
    depth = enter.max(axis=-1)
    inside = (depth < leave) & (depth > 0)
    hit = camera.position + depth[..., None] * rays
    normal = -np.sign(np.take_along_axis(rays, axis[..., None], -1)) * np.eye(3)[axis]
    pull = camera.camera_from_world.T @ (light.strength * light.direction)
    shade = np.clip(light.ambient + normal @ pull, 0.3, 1.3) * (
        0.8 + 0.2 * np.clip(hit[..., 2], 0, 1)
    )
    grain = _look_up(_clouds(rng), hit[..., 0] + 0.7 * hit[..., 1], hit[..., 2], 0.8)
    colour = (
        block.colour * (shade * (1 + 0.12 * grain))[..., None] * light.tint * inside[..., None]
    ).astype(np.float32)
    cover = cv2.resize(inside.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    colour = cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
    colour /= np.maximum(cover, 1e-3)[..., None]
    shown = np.where(inside, depth, np.inf).astype(np.float32)
    shown = shown.reshape(height, _FINE, width, _FINE).min(axis=(1, 3))
    shown = np.where(np.isfinite(shown), shown, 1e6).astype(np.float32)
    return Patch(slice(int(y0), int(y1)), slice(int(x0), int(x1)), cover, shown, colour)


def furnish(
    camera: Camera, wall: float, hiding: float | None, rng: np.random.Generator
) -> list[Block]:
    """Cupboards along the wall and, `hiding` metres away, a column or a bench in the way."""
    wide = wall * camera.width / camera.focal / 2
    blocks = []
    for _ in range(rng.integers(1, 4)):
        x, w, d, h = rng.uniform(-wide, wide), *rng.uniform([0.4, 0.3, 0.4], [1.4, 0.6, 1.7])
        blocks.append(
            Block(
                np.array([x, wall - d, 0.0]), np.array([x + w, wall, h]), _muted(rng, 40.0, 190.0)
            )
        )
    if hiding is not None:
        x = rng.uniform(-0.4, 0.4) * hiding * camera.width / camera.focal
        grey = rng.uniform(90, 190) + rng.normal(0, 12, 3)
        if rng.uniform() < 0.5:
            low, high = [x - 0.14, hiding, 0.0], [x + 0.14, hiding + 0.28, 4.0]
            blocks.append(Block(np.array(low), np.array(high), grey))
        else:
            blocks += _bench(x, hiding, rng.uniform(0.42, 0.5), grey)
    return blocks


def _bench(x: float, y: float, seat: float, colour: Float[np.ndarray, "3"]) -> list[Block]:
    """Two feet, a seat and a back."""
    spans = [
        ([x - 0.7, y, 0.0], [x - 0.62, y + 0.4, seat]),
        ([x + 0.62, y, 0.0], [x + 0.7, y + 0.4, seat]),
        ([x - 0.8, y, seat], [x + 0.8, y + 0.42, seat + 0.06]),
        ([x - 0.8, y + 0.36, seat + 0.12], [x + 0.8, y + 0.42, seat + 0.38]),
    ]
    return [Block(np.array(low), np.array(high), colour) for low, high in spans]


def _floor(
    hit: Float32[np.ndarray, "h w 3"],
    wall: float,
    cloud: Float32[np.ndarray, "n n"],
    rng: np.random.Generator,
) -> Float32[np.ndarray, "h w 3"]:
    """Tiles, planks or asphalt."""
    base = (rng.uniform(70, 185) + rng.normal([10, 2, -8], 12, 3)).astype(np.float32)
    x, y = hit[..., 0], hit[..., 1]
    shade = 1 + 0.10 * _look_up(cloud, x, y, 0.35) + 0.08 * _look_up(cloud, y, x, 3.0)
    kind = rng.integers(3)
    if kind < 2:
        w, d = rng.uniform(0.3, 0.8), (rng.uniform(0.3, 0.8) if kind == 0 else rng.uniform(1.5, 3))
        column = np.floor(x / w)
        row = np.floor(y / d + (0.37 * column if kind == 1 else 0))
        joint = (np.abs(x / w - column - 0.5) > 0.5 - 0.008 / w) | (
            np.abs((y / d + (0.37 * column if kind == 1 else 0)) - row - 0.5) > 0.5 - 0.008 / d
        )
        tone = np.sin(column * 12.9898 + row * 78.233) * 43758.5453
        shade = shade * (0.94 + 0.12 * (tone - np.floor(tone))) * np.where(joint, 0.72, 1)
    fade = 0.8 + 0.2 * np.clip((wall - y) / 1.5, 0, 1)  # darker where it meets the wall
    return (base * (shade * fade)[..., None]).astype(np.float32)


def _wall(
    hit: Float32[np.ndarray, "h w 3"], cloud: Float32[np.ndarray, "n n"], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Paint or bricks, with pictures, windows and a door."""
    base = (rng.uniform(110, 225) + rng.normal(0, 14, 3)).astype(np.float32)
    x, z = hit[..., 0], hit[..., 2]
    shade = 1 + 0.05 * _look_up(cloud, x, z, 0.3) + 0.03 * _look_up(cloud, x, z, 4.0)
    shade = shade * (0.86 + 0.06 * np.clip(z, 0, 3))
    if rng.uniform() < 0.35:
        row = np.floor(z / 0.12)
        column = np.floor(x / 0.3 + 0.5 * (row % 2))
        joint = (np.abs(z / 0.12 - row - 0.5) > 0.44) | (
            np.abs(x / 0.3 + 0.5 * (row % 2) - column - 0.5) > 0.475
        )
        tone = np.sin(column * 12.9898 + row * 78.233) * 43758.5453
        shade = shade * (0.85 + 0.2 * (tone - np.floor(tone))) * np.where(joint, 1.1, 0.9)
    colour = base * shade[..., None]
    colour = np.where((z < 0.1)[..., None], 0.6 * colour, colour)
    reach = float(np.abs(x).max()) if np.isfinite(x).all() else 8.0
    for _ in range(rng.integers(2, 7)):
        w, h = rng.uniform(0.5, 1.6), rng.uniform(0.5, 1.5)
        left, low = rng.uniform(-min(reach, 8), min(reach, 8)), rng.uniform(0.9, 1.9)
        if rng.uniform() < 0.2:
            w, h, low = 0.95, 2.1, 0.0
        u, v = (x - left) / w, (z - low) / h
        there = (u > 0) & (u < 1) & (v > 0) & (v < 1)
        frame = there & ((np.minimum(u, 1 - u) < 0.05 / w) | (np.minimum(v, 1 - v) < 0.05 / h))
        one, two = _muted(rng, 30.0, 240.0), _muted(rng, 30.0, 240.0)
        mix = np.clip(v + 0.3 * _look_up(cloud, x, z, float(rng.uniform(1, 3))), 0, 1)
        inner = one + mix[..., None] * (two - one)
        colour = np.where(there[..., None], inner, colour)
        colour = np.where(frame[..., None], rng.uniform(40, 220), colour)
    return colour.astype(np.float32)


def _clouds(rng: np.random.Generator) -> Float32[np.ndarray, "n n"]:
    """Seamless noise of many sizes, about unit variance."""
    n, total = 256, np.zeros((256, 256), dtype=np.float32)
    for cells in (4, 8, 16, 32, 64):
        coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        tiled = np.tile(coarse, (3, 3))
        total += cv2.resize(tiled, (3 * n, 3 * n), interpolation=cv2.INTER_CUBIC)[
            n : 2 * n, n : 2 * n
        ]
    return total / total.std()


def _look_up(
    cloud: Float32[np.ndarray, "n n"],
    x: Float[np.ndarray, "h w"],
    y: Float[np.ndarray, "h w"],
    per_metre: float,
) -> Float32[np.ndarray, "h w"]:
    scale = 256 / 4 * per_metre
    column, row = ((c * scale % 256).astype(np.float32) for c in (x, y))
    return cv2.remap(cloud, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _muted(rng: np.random.Generator, low: float, high: float) -> Float32[np.ndarray, "3"]:
    """A colour that is not far from grey, as most things are."""
    return np.clip(rng.uniform(low, high) + rng.normal(0, 18, 3), 0, 255).astype(np.float32)
