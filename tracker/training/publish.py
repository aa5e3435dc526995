"""From a trained network to the pair that ships: an ONNX graph and its JSON card."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

import engines
from engines.export import export_onnx
from tracker.detector import Detector
from tracker.latents import sobol_latents
from tracker.nets.detector import DetectorModule, ExportedDetector
from tracker.nets.pose import ExportedPose, PoseModule
from tracker.pose import OUTPUTS, Calibration, PoseNet
from tracker.skeleton import COCO17
from tracker.training.calibrate import calibrate, predict
from tracker.training.data import Images, Split, honest_labels
from tracker.training.detector import DetectorRecipe
from tracker.training.pose import PoseBatch, PoseRecipe, collate
from tracker.training.presence import fit_presence
from tracker.training.scores import fit_scores, found_boxes
from tracker.training.views import calibration_crops
from tracker.weights import Weights

N_HYPOTHESES = 8
LONG_SIDE = 416
"""The detector's canvas, px."""

log = logging.getLogger("surepose.train")

DATA_TERMS = [
    "Stanford 40 Actions (pictures; box by humans, keypoints by a network): research use",
    "Leeds Sports Pose Extended (pictures, keypoints by crowd workers): cite Johnson & Everingham"
    " 2011; Flickr images",
    "fashion studio photographs (keypoints by humans): Apache-2.0 repository, stock photographs",
    "persondet (street and shop pictures, boxes): CC BY 4.0 as stated by the uploader",
    "rendered people (tracker.demo): this project's own",
    "what nobody labelled: RTMDet-nano and PP-TinyPose (Apache-2.0) as teachers",
]


def publish_pose(
    net: PoseModule,
    data: Path,
    cache: Path,
    folder: Path,
    name: str,
    recipe: PoseRecipe,
    seen: int,
    starts: Sequence[Weights] = (),
) -> Path:
    """Calibrate on the held-out part of train, export, write the card.

    `starts` are the networks that training began with, `seen` the crops since.
    """
    batches = calibration_batches(data, cache)
    latent = torch.from_numpy(sobol_latents(N_HYPOTHESES))
    fit = calibrate(*predict(net, batches, latent))
    example = {"image": torch.full((2, 3, 256, 192), 100.0), "latent": latent}
    path = folder / f"pose-{name}.onnx"
    parity = export_onnx(
        ExportedPose(net).eval(),
        example,
        path,
        outputs=OUTPUTS,
        dynamic={
            "image": {0: Dim("batch", min=1, max=256)},
            "latent": {0: Dim("hypotheses", min=1, max=256)},
        },
    )
    split = Split.load(data, "train")
    latents = sobol_latents(N_HYPOTHESES)
    ready = PoseNet(engines.load(path, "cpu", 1), Calibration.none(len(COCO17)), latents)
    finder = Detector.load("nano", "cpu", 1)
    presence = fit_presence(ready, finder, split, Images.open(split, cache))
    card = {
        "kind": "pose",
        "input": {"height": 256, "width": 192},
        "n_hypotheses": N_HYPOTHESES,
        "calibration": asdict(fit) | {"on": "held-out part of train, labelled by humans"},
        "presence": asdict(presence) | {"on": "held-out part of train"},
        "recipe": asdict(recipe),
        "data_sizes": data_sizes(split),
        **_lineage("crops_seen", seen, starts),
    }
    return write_card(path, name, card, net, parity)


def publish_detector(
    net: DetectorModule,
    data: Path,
    cache: Path,
    folder: Path,
    name: str,
    recipe: DetectorRecipe,
    seen: int,
    starts: Sequence[Weights] = (),
    backbone: Weights | None = None,
) -> Path:
    """Calibrate the scores, export, write the card.

    `backbone` is the pose network whose backbone it began with.
    """
    split = Split.load(data, "train")
    fit = fit_scores(*found_boxes(net.eval(), split, Images.open(split, cache), LONG_SIDE))
    height, width = 32 * Dim("rows", min=2, max=60), 32 * Dim("columns", min=2, max=60)
    path = folder / f"detector-{name}.onnx"
    parity = export_onnx(
        ExportedDetector(net, fit.weights).eval(),
        {"image": torch.full((2, 3, 256, 320), 100.0)},
        path,
        outputs=["box", "score"],
        dynamic={"image": {0: Dim("batch", min=1, max=256), 2: height, 3: width}},
    )
    card = {
        "kind": "detector",
        "input": {"long_side": LONG_SIDE},
        "threshold": 0.5,
        "calibration": asdict(fit) | {"on": "held-out part of train"},
        "recipe": asdict(recipe),
        "data_sizes": data_sizes(split),
        **_lineage("canvases_seen", seen, starts),
        "backbone_from": None if backbone is None else backbone.entry("sha256"),
    }
    return write_card(path, name, card, net, parity)


def _lineage(key: str, seen: int, starts: Sequence[Weights]) -> dict[str, Any]:
    """How much the network has seen, by this recipe and before it, along the longest line."""
    if not starts:
        return {key: seen}
    before = [{"sha256": start.entry("sha256"), key: start.entry(key)} for start in starts]
    return {key: seen + max(start[key] for start in before), "started_from": before}


def data_sizes(split: Split) -> dict[str, dict[str, int]]:
    """Pictures and people of each source."""
    return {
        str(name): {
            "pictures": int((split["img_source"] == k).sum()),
            "people": int((split.person_source == k).sum()),
        }
        for k, name in enumerate(split["sources"])
        if (split["img_source"] == k).any()
    }


def calibration_batches(data: Path, cache: Path) -> list[PoseBatch]:
    """The people kept from training, as the network will see them."""
    split = Split.load(data, "train")
    images = Images.open(split, cache)
    samples = list(calibration_crops(honest_labels(split), images, (256, 192)))
    return [collate(samples[i : i + 32]) for i in range(0, len(samples), 32)]


def write_card(
    path: Path, name: str, card: dict[str, Any], net: torch.nn.Module, parity: dict[str, float]
) -> Path:
    """Write the JSON beside the graph; `card` may overrule what is said of the shipped networks."""
    whole = {
        "name": name,
        "version": 1,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": sum(p.numel() for p in net.parameters()),
        "bytes": path.stat().st_size,
        "parity_with_torch": parity,
        "data": DATA_TERMS,
        "licence": "Apache-2.0 for the weights; the data's own terms are above",
    } | card
    path.with_suffix(".json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return path
