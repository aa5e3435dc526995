"""Many people who walk past one another, hide one another, and ghosts among them.

Everybody walks to and fro in a depth of their own. Whoever is covered by somebody nearer is found
less often and with a lower score, their covered keypoints are uncertain, and now and then the
network draws the nearer person once more instead of them. Ghosts appear anywhere with low scores,
some for one frame, some for longer.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.motion import FPS, Draw
from benchmarks.tracking.simulator import Network, NetworkConfig
from tracker.evaluation.people import People
from tracker.sightings import person_box
from tracker.types import PoseMixture

WIDTH, FLOOR = 1280.0, 640.0
"""Of the picture, px: people walk within this and stand on that."""
TORSO = (5, 6, 11, 12)


@dataclass(frozen=True, slots=True)
class CrowdConfig:
    """How crowded and how bad."""

    people: int = 12
    frames: int = 240
    network: NetworkConfig = field(default_factory=NetworkConfig)
    found: float = 0.98
    """Probability that somebody in full sight is detected."""
    mistaken: float = 0.2
    """Probability that, of somebody mostly covered, the nearer person is drawn instead."""
    ghosts: float = 0.3
    """New ghosts a frame; half of them last one frame, the others half a second in the mean."""
    clutter: bool = True
    away: tuple[float, float] | None = None
    """Everybody is out of sight once, for a time between these, s."""


@dataclass(frozen=True, slots=True, eq=False)
class _Walker:
    keypoints: Float[np.ndarray, "n 17 2"]
    height: float
    away: range
    """Frames out of sight."""


def crowd(draw: Draw, config: CrowdConfig, seed: int) -> Detections:
    """A scene, as detections frozen for every tracker, and its truth."""
    rng = np.random.default_rng(seed)
    # Nearest first: larger, and lower in the picture.
    depth = np.sort(rng.uniform(0, 1, config.people))
    walkers = [_walker(draw, d, config, rng) for d in depth]
    networks = [Network(config.network, rng) for _ in walkers]
    ghosts = _Ghosts(draw, config, rng)
    frames, truth = [], {}
    for i in range(config.frames):
        poses = [*_looks(walkers, networks, i, config, rng), *ghosts.advance()]
        frames.append(tuple(poses[k] for k in rng.permutation(len(poses))))
        truth[i] = _people(walkers, i)
    return Detections(f"crowd {seed}", FPS, tuple(frames), truth)


def _walker(draw: Draw, depth: float, config: CrowdConfig, rng: np.random.Generator) -> _Walker:
    height, n = 240 - 110 * depth, config.frames
    x = _to_and_fro(n, rng) * (WIDTH - 200) + 100
    y = FLOOR - 200 * depth - height / 2
    keypoints = height * draw(rng, n) + np.stack([x, np.full(n, y)], axis=1)[:, None]
    return _Walker(keypoints, height, _away(config, rng))


def _away(config: CrowdConfig, rng: np.random.Generator) -> range:
    """Two seconds before and after are in sight."""
    if config.away is None:
        return range(0)
    frames = int(FPS * rng.uniform(*config.away))
    settled = int(2 * FPS)
    start = int(rng.integers(settled, config.frames - frames - settled + 1))
    return range(start, start + frames)


def _to_and_fro(n: int, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """A smooth random way within [0, 1]: speeds of walking, turning back now and then."""
    t = np.arange(n) / FPS
    way = rng.uniform(0, 1) + rng.choice([-1.0, 1.0]) * rng.uniform(0.06, 0.16) * t
    way = way + 0.05 * np.sin(2 * np.pi * (rng.uniform(0.05, 0.2) * t + rng.uniform()))
    folded = way % 2
    return np.where(folded > 1, 2 - folded, folded)


def _looks(
    walkers: list[_Walker],
    networks: list[Network],
    i: int,
    config: CrowdConfig,
    rng: np.random.Generator,
) -> list[PoseMixture]:
    """Of everybody who is found in this frame."""
    for network in networks:
        network.advance()
    seen = []
    for k, walker in enumerate(walkers):
        if i in walker.away:
            continue
        covered = _covered(walker.keypoints[i], walkers[:k], i)
        share = float(covered.any(axis=0).mean())
        # In full sight as told; none of those who are covered altogether.
        chance = config.found * float(np.clip(1.15 - 1.15 * share**1.5, 0.0, 1.0))
        score = float(np.clip(rng.normal(0.85 - 0.55 * share, 0.07), 0.05, 0.99))
        found, mistaken = rng.uniform(size=2) < (chance, config.mistaken)
        if not found:
            continue
        if mistaken and share > 0.5:
            nearer = int(covered.sum(axis=1).argmax())
            seen.append(_look(networks[nearer], walkers[nearer], walkers[:nearer], i, score))
        else:
            seen.append(_look(networks[k], walker, walkers[:k], i, score))
    return seen


def _look(
    network: Network, walker: _Walker, nearer: list[_Walker], i: int, score: float
) -> PoseMixture:
    covered = np.asarray(_covered(walker.keypoints[i], nearer, i).any(axis=0))
    return network.look(walker.keypoints[i], walker.height, score, covered)


def _covered(
    keypoints: Float[np.ndarray, "17 2"], nearer: list[_Walker], i: int
) -> Bool[np.ndarray, "nearer 17"]:
    """Which keypoints are behind whose body: head, trunk and legs as a bar."""
    covered = np.zeros((len(nearer), len(keypoints)), bool)
    for row, other in zip(covered, nearer, strict=True):
        body = other.keypoints[i]
        centre, half = body[list(TORSO), 0].mean(), 0.11 * other.height
        inside = np.abs(keypoints[:, 0] - centre) < half
        row[:] = (
            inside & (keypoints[:, 1] > body[:, 1].min()) & (keypoints[:, 1] < body[:, 1].max())
        )
    return covered


def _people(walkers: list[_Walker], i: int) -> People:
    here = [k for k, walker in enumerate(walkers) if i not in walker.away]
    if not here:
        return People.nobody()
    keypoints = np.stack([walkers[k].keypoints[i] for k in here])
    box = np.stack([person_box(k, np.ones(len(k))) for k in keypoints])
    return People(np.array(here), box, keypoints)


class _Ghosts:
    """False detections: bodies that are not there."""

    def __init__(self, draw: Draw, config: CrowdConfig, rng: np.random.Generator) -> None:
        self.draw, self.config, self.rng = draw, config, rng
        self.alive: list[tuple[Float[np.ndarray, "17 2"], float, Network, bool]] = []

    def advance(self) -> list[PoseMixture]:
        if not self.config.clutter:
            return []
        stay = self.rng.uniform(size=len(self.alive)) < 1 - 1 / (0.5 * FPS)
        self.alive = [g for g, s in zip(self.alive, stay, strict=True) if g[3] and s]
        for _ in range(self.rng.poisson(self.config.ghosts)):
            self.alive.append(self._appear())
        poses = []
        for keypoints, height, network, _ in self.alive:
            network.advance()
            score = float(np.clip(self.rng.normal(0.35, 0.1), 0.05, 0.7))
            covered = self.rng.uniform(size=17) < 0.4
            poses.append(network.look(keypoints, height, score, covered))
        return poses

    def _appear(self) -> tuple[Float[np.ndarray, "17 2"], float, Network, bool]:
        height = self.rng.uniform(130, 240)
        place = np.array([self.rng.uniform(0, WIDTH), FLOOR - self.rng.uniform(100, 320)])
        body = height * self.draw(self.rng, 9)[4] + place
        return body, height, Network(self.config.network, self.rng), self.rng.uniform() < 0.5
