"""The methods that the network is measured against, each from what it would see of a person.

A method is a function `Seen → Beliefs` in `METHODS`; what comes out is calibrated the same way for
all. To add one, write such a function and add what it needs to `Seen`. A method that needs what was
not looked at gives None. Pose networks of `surepose fit-sampler` come with their files
(`fitted_net`) and are methods by the names on their cards.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32
from rich.progress import track as progress
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from benchmarks.calibrating import Beliefs, Trust, fit
from tracker import weights
from tracker.crops import crop_box, cut, image_from_net
from tracker.errors import WeightsError
from tracker.foreign import pose_net
from tracker.mixture import moments
from tracker.pose import Calibration, PoseNet
from tracker.training.data import Split, calibration_rows, honest_labels, teacher_points
from tracker.types import Detection, Frame, Mixture, PoseMixture

HeatmapNet = Callable[[Float32[np.ndarray, "B 3 height width"]], Float32[np.ndarray, "B J h w"]]
CHUNK = 16
"""Crops that run at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the methods see of N people, and what humans said of them; image px."""

    box: Float[np.ndarray, "N 4"]
    truth: Float[np.ndarray, "N J 2"]
    labelled: Bool[np.ndarray, "N J"]
    ours: list[PoseMixture]
    """The network's hypotheses without calibration."""
    teacher: Float[np.ndarray, "N J 3"]
    """x, y and score of the stored PP-TinyPose predictions."""
    heatmap: Float32[np.ndarray, "N J h w"] | None
    """Logits of our network; None without torch."""
    others: dict[str, list[PoseMixture]]
    """Hypotheses of further pose networks by name, without calibration."""


@dataclass(frozen=True, slots=True, eq=False)
class Eyes:
    """The networks that look at crops."""

    net: PoseNet
    heatmaps: HeatmapNet | None
    others: dict[str, PoseNet]

    @classmethod
    def open(cls, net: PoseNet, onnx_path: Path, others: dict[str, PoseNet]) -> "Eyes":
        """The networks' uncalibrated hypotheses, and our heatmaps where torch is installed."""
        plain = {name: _uncalibrated(other) for name, other in others.items()}
        try:
            return cls(_uncalibrated(net), heatmap_net(onnx_path), plain)
        except ImportError:
            return cls(_uncalibrated(net), None, plain)

    def look(self, split: Split, rows: Sequence[int]) -> Seen:
        """At labelled people of a split, in their labelled boxes; labels as they are stored."""
        box = split["person_box"][rows].astype(np.float64)
        keypoints = split["person_keypoints"][rows].astype(np.float64)
        score = split["person_teacher"][..., 2:].astype(np.float64)
        teacher = np.concatenate([teacher_points(split), score], axis=2)
        ours: list[PoseMixture] = []
        others: dict[str, list[PoseMixture]] = {name: [] for name in self.others}
        heatmap = []
        for i in progress(range(0, len(rows), CHUNK), f"{split.name} people", transient=True):
            views = []
            for row in range(i, min(i + CHUNK, len(rows))):
                frame = Frame(split.decode(int(split["person_img"][rows[row]])), 0, 0.0)
                person = [Detection(box[row], 1.0)]
                ours += self.net(frame, person)
                for name, other in self.others.items():
                    others[name] += other(frame, person)
                crop = [crop_box(box[row])]
                views.append(cut(frame.image, crop, self.net.height, self.net.width)[0])
            if self.heatmaps is not None:
                heatmap.append(self.heatmaps(np.stack(views)))
        return Seen(
            box,
            keypoints[..., :2],
            keypoints[..., 2] > 0,
            ours,
            teacher[rows],
            np.concatenate(heatmap) if heatmap else None,
            others,
        )


def calibration_people(split: Split, eyes: Eyes) -> Seen:
    """The people kept from training on whom shipped networks are calibrated, too."""
    labels = honest_labels(split)
    rows = calibration_rows(labels)
    return replace(
        eyes.look(split, rows), truth=labels.keypoints[rows], labelled=labels.weight[rows] > 0
    )


def fitted_net(name: str) -> tuple[str, PoseNet]:
    """What `surepose fit-sampler` made by its name; FILE=NETWORK where NETWORK is not ours."""
    path, _, network = name.partition("=")
    found = weights.find("sampler" if network else "pose", path)
    return found.entry("name"), pose_net(path, network) if network else PoseNet.load(path)


def heatmap_net(onnx_path: Path) -> HeatmapNet:
    """Restore the heatmap branch from the parameters in the shipped graph (needs torch)."""
    import torch

    from engines.export import load_state
    from tracker.nets.pose import PoseModule

    module = PoseModule().eval()
    state = {name.removeprefix("net."): value for name, value in load_state(onnx_path).items()}
    # The sampler stands behind the heatmaps: it may be of another version.
    own = [n for n in module.state_dict() if not n.startswith("sampler.")]
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(f"{onnx_path} has no heatmap branch of ours: it lacks {missing[0]}")
    module.load_state_dict({n: torch.from_numpy(state[n]) for n in own if n in state}, strict=False)

    def look(image: Float32[np.ndarray, "B 3 height width"]) -> Float32[np.ndarray, "B J h w"]:
        with torch.no_grad():
            return module.look(torch.from_numpy(image))[0].numpy()

    return look


# --- methods ------------------------------------------------------------------------------------


def ours(seen: Seen) -> Beliefs:
    """The network's hypotheses."""
    return Beliefs.stack([pose.mixture for pose in seen.ours])


def single_gaussian(seen: Seen) -> Beliefs:
    """The same network's hypotheses as one Gaussian of their mean and full covariance."""
    whole = [moments(pose.mixture) for pose in seen.ours]
    return _one(np.stack([m.mean for m in whole]), np.stack([m.cov for m in whole]))


def heatmap_argmax(seen: Seen) -> Beliefs | None:
    """The highest cell, moved a quarter cell towards its higher neighbours; one width for all.

    The width of a keypoint is in parts of the person's box and fitted by calibration.
    """
    if seen.heatmap is None:
        return None
    n, j, _, w = seen.heatmap.shape
    best = seen.heatmap.reshape(n, j, -1).argmax(axis=-1)
    row, column = np.divmod(best, w)
    at = np.take_along_axis
    padded = np.pad(seen.heatmap, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    flat = padded.reshape(n, j, -1)
    centre = (row + 1) * (w + 2) + column + 1

    def slope(step: int) -> Float[np.ndarray, "n j"]:
        up, down = (at(flat, (centre + s)[..., None], axis=-1)[..., 0] for s in (step, -step))
        return 0.25 * np.sign(up - down)

    cells = np.stack([column + 0.5 + slope(1), row + 0.5 + slope(w + 2)], axis=-1)
    size = np.sqrt((seen.box[:, 2:] - seen.box[:, :2]).prod(axis=1))
    variance = np.square(0.05 * size)[:, None, None] * np.ones((n, 2 * j, 1))
    return _one(_image_px(seen, cells).reshape(n, -1), variance * np.eye(2 * j))


def heatmap_moments(seen: Seen) -> Beliefs | None:
    """Mean and covariance of each normalised map, keypoints independent."""
    if seen.heatmap is None:
        return None
    n, j, h, w = seen.heatmap.shape
    p = np.exp(log_softmax(seen.heatmap.reshape(n, j, -1).astype(np.float64), axis=-1))
    grid = np.stack(np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5), axis=-1).reshape(-1, 2)
    mean = p @ grid
    outer = (grid[:, :, None] * grid[:, None]).reshape(-1, 4)
    second = (p @ outer).reshape(n, j, 2, 2) - mean[..., :, None] * mean[..., None, :]
    # A cell is as wide as the map can tell.
    cell = _cell(seen)[:, None, None, None]
    blocks = cell**2 * (second + np.eye(2) / 12)
    return _one(_image_px(seen, mean).reshape(n, -1), _block_diagonal(blocks))


def teacher(seen: Seen, slope: float) -> Beliefs:
    """PP-TinyPose's points; log variance falls with the score, keypoints independent.

    The slope is common and fitted too, the intercept is that of calibration.
    """
    n = len(seen.teacher)
    size = np.sqrt((seen.box[:, 2:] - seen.box[:, :2]).prod(axis=1))
    log_variance = 2 * np.log(0.05 * size)[:, None] - slope * (seen.teacher[..., 2] - 0.5)
    blocks = np.exp(log_variance)[..., None, None] * np.eye(2)
    return _one(seen.teacher[..., :2].reshape(n, -1), _block_diagonal(blocks))


@dataclass(frozen=True, slots=True)
class Method:
    """How what was seen becomes mixtures; some have one number to fit along, within bounds."""

    predict: Callable[[Seen, float], Beliefs | None]
    bounds: tuple[float, float] | None = None

    def calibrate(self, held: Seen, tails: int) -> "Fitted | None":
        """Fit on held-out people; None for a method that cannot see them."""
        if self.predict(held, 0.0) is None:
            return None

        def loss(number: float) -> float:
            return self._fit(held, number, tails)[1]

        number = 0.0
        if self.bounds is not None:
            found = minimize_scalar(
                loss, bounds=self.bounds, method="bounded", options={"xatol": 0.1}
            )
            number = float(found.x)
        return Fitted(self.predict, number, self._fit(held, number, tails)[0])

    def _fit(self, held: Seen, number: float, tails: int) -> tuple[Trust, float]:
        beliefs = self.predict(held, number)
        assert beliefs is not None
        return fit(beliefs, held.truth, held.labelled, tails)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A calibrated method."""

    predict: Callable[[Seen, float], Beliefs | None]
    number: float
    trust: Trust

    def __call__(self, seen: Seen) -> list[Mixture]:
        beliefs = self.predict(seen, self.number)
        assert beliefs is not None
        return self.trust.apply(beliefs).mixtures()

    def record(self) -> dict[str, object]:
        """For the JSON."""
        return {"number": round(self.number, 3), **self.trust.record()}


METHODS = {
    "ours": Method(lambda seen, _: ours(seen)),
    "single_gaussian": Method(lambda seen, _: single_gaussian(seen)),
    "heatmap_moments": Method(lambda seen, _: heatmap_moments(seen)),
    "heatmap_argmax": Method(lambda seen, _: heatmap_argmax(seen)),
    "teacher": Method(teacher, bounds=(0.0, 12.0)),
}


def methods(others: Iterable[str]) -> dict[str, Method]:
    """All of `METHODS`, and further networks."""
    return METHODS | {name: Method(partial(_named, name)) for name in others}


def _named(name: str, seen: Seen, number: float) -> Beliefs:
    del number
    return Beliefs.stack([pose.mixture for pose in seen.others[name]])


def _uncalibrated(net: PoseNet) -> PoseNet:
    return replace(net, calibration=Calibration.none(len(net.skeleton)))


def _one(mean: Float[np.ndarray, "N D"], cov: Float[np.ndarray, "N D D"]) -> Beliefs:
    return Beliefs(mean[:, None], cov[:, None], np.zeros((len(mean), 1)))


def _cell(seen: Seen) -> Float[np.ndarray, " N"]:
    """Image px per cell of the heatmaps."""
    assert seen.heatmap is not None
    crops = np.stack([crop_box(box) for box in seen.box])
    return (crops[:, 3] - crops[:, 1]) / seen.heatmap.shape[2]


def _image_px(seen: Seen, cells: Float[np.ndarray, "N J 2"]) -> Float[np.ndarray, "N J 2"]:
    assert seen.heatmap is not None
    place = cells / seen.heatmap.shape[2]
    maps = [image_from_net(crop_box(box)) for box in seen.box]
    return np.stack([image.points(xy) for image, xy in zip(maps, place, strict=True)])


def _block_diagonal(blocks: Float[np.ndarray, "N J 2 2"]) -> Float[np.ndarray, "N D D"]:
    n, j = blocks.shape[:2]
    return np.einsum("njab,ji->njaib", blocks, np.eye(j)).reshape(n, 2 * j, 2 * j)
