"""`surepose train`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tracker.commands.common import OptionalPath, OptionalStr, start_log
from tracker.errors import TrackerError


def train(
    what: Annotated[Literal["pose", "detector"], tyro.conf.Positional],
    *,
    data: Path,
    out: OptionalPath = None,
    cache: OptionalPath = None,
    recipe: OptionalPath = None,
    stages: tuple[str, ...] = (),
    teacher: OptionalPath = None,
    start_from: tuple[str, ...] = (),
    backbone_from: OptionalStr = None,
    name: str = "nano",
    seed: int = 0,
    device: Literal["cpu", "cuda"] = "cpu",
    publish_only: bool = False,
) -> int:
    """Train a network on labelled pictures, calibrate it and export it with its card.

    Started again with the same --out it goes on from its last checkpoint (one every five minutes).

    Args:
        what: Which of the two networks.
        data: Folder with train.npz and its .bin files.
        out: Checkpoints, log.jsonl, and at the end the .onnx and its card; by default
            runs/pose-nano or the like.
        cache: Where pictures are kept decoded (some GB); by default within --out.
        recipe: The training in numbers: a .toml or the card (.json) of a trained network; by
            default the project's own.
        stages: Instead of the recipe's: heatmap:CROPS:HEIGHT imle:CROPS:HEIGHT mixture:CROPS:HEIGHT
            for the pose network, IMAGES:SIDE,SIDE,… for the detector.
        teacher: For the pose network, a heatmap network (ncnn .param beside its .bin) that labels
            the people in the pictures whom nobody labelled; for the detector, a detector exported
            as RTMDet is (.onnx), which is asked about every canvas.
        start_from: Begin with the weights of a shipped network (nano) or of an .onnx; with the mean
            of several that came of one.
        backbone_from: Begin a detector with the backbone of a pose network.
        name: The files will be pose-NAME.onnx or detector-NAME.onnx and .json.
        seed: Of the first weights, the order of the data and its augmentation.
        device: Of torch.
        publish_only: Do not train: calibrate and export the last checkpoint, or what --start-from
            gives.
    """
    try:
        from tracker.training.run import Run, train_detector, train_pose
    except ImportError as error:
        raise TrackerError(
            f"training needs torch, which is not here ({error}): pip install 'surepose[train]'"
        ) from error
    start_log()
    out = out or Path("runs") / f"{what}-{name}"
    run = Run(
        data=data,
        out=out,
        cache=cache or out / "cache",
        recipe=recipe,
        stages=stages,
        teacher=teacher,
        start_from=start_from,
        backbone_from=backbone_from,
        name=name,
        seed=seed,
        device=device,
        publish_only=publish_only,
    )
    path = train_pose(run) if what == "pose" else train_detector(run)
    sys.stdout.write(f"{path}\n")
    return 0
