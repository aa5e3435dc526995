"""How well do the shipped networks place keypoints, and do they know how well?

    python -m benchmarks.accuracy --data DIR --split dev --json OUT [--plots FOLDER]
        [--fitted FILE[=NETWORK] …]

DIR is in the format of the project's packed pose data (`tracker.training.data`). Only keypoints
that humans placed count. People are cropped by their labelled boxes, except in `end_to_end`; who is
labelled outside of that crop (`tracker.training.data.beside_box`) is left out: `left_out` people.

Keys of the JSON; below them, a source of pictures or `all`, which is every person of every source:

- `ours`, and `teacher`, the predictions that are stored with the data: `people`, `ap`, `ap50`, `ar`
  (COCO, by OKS), `pck10` (within a tenth of the box's longer side) of one answer, the pose of the
  largest expected OKS, which is also its score; for ours also `nll` (below) and of the pose
  that the tracker starts from (hypotheses reduced, then the heaviest) `coverage` (share of
  keypoints inside the 50/90/95/99 % ellipses), `expected_oks` beside `oks` (promised and kept).
- `methods`: mixtures over poses, judged by `benchmarks.honesty`. `shipped` is the network with the
  calibration of its card, `flip_test` the same looking at everybody in a mirror too; the others are
  calibrated here on the people kept from training (none without DIR's `train`): `ours` and the
  rivals of `benchmarks.rivals` by a factor for each keypoint and a temperature, and again under
  `NAME+tails` with heavy tails (`benchmarks.calibrating`). The methods that need heatmaps need
  torch. With `--fitted`, also what `surepose fit-sampler` made, by the name on its card: FILE of
  our own heatmaps (`--hypotheses 1`: a single Gaussian trained on them), FILE=NETWORK of somebody
  else's. Keys:
  - `ap`, `ap50`, `ar`, `pck10` of one answer, the pose of the largest expected OKS;
  - `nll`: nats per keypoint, all labelled keypoints of a person jointly, lengths in OKS fall-offs
    2 σⱼ sqrt(area); `nll_behind_ours`: how much worse than ours with the same form of calibration,
    `mean` and `standard_error` (bootstrap over people);
  - `coverage_pose`, `coverage_keypoint`: share of truths in the highest-density regions of
    50/90/95/99 %, of the whole labelled pose and of each keypoint, and the `largest_deviation` of
    the whole curve;
  - `expected_oks`, `oks`, `ece_oks`: means over keypoints, and the expected calibration error of
    the first as a promise of the second;
  - `energy_score` in fall-offs, over the square root of the number of keypoints;
  - `best_of`: OKS of the best of the heaviest K hypotheses, never to be read without `nll`;
  - `tac`: mean error of half of the keypoints `before` and `after` the other half is told, in
    fall-offs, `gain` = 1 - after / before; `control_gain` the same, told somebody else's errors;
  - `ause`: area between the sparsification curves by predicted uncertainty and by error;
  - `curves`, of `all` only: coverage over `coverage_grid` (a key beside `methods`), the bins of
    `reliability`, and the mean error of what is left when the most uncertain 0, 5, … 95 % of
    keypoints are dropped, over the mean error of all (`sparsification`, its `…_oracle`).
- `calibrations`: what was fitted for each method; `number` is the teacher's slope of the log
  variance over the score.
- `detector` (boxes) and `end_to_end` (keypoints in our own boxes): measured on the source `coco`,
  many of whose people are labelled; null where there is none. Who is found and not labelled counts
  as false, and that is what most of these are: `at_labelled` leaves out boxes that touch the box of
  nobody labelled, and with `--witness` `completed` those that hold somebody whom RTMDet-nano sees
  and nobody labelled. `found`: the share of the labelled in a box of the detector's threshold, by
  its own score and once the pose network has looked, `looked_at`.
  `false_people`: the same in views where nobody is (`benchmarks.person_free`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track as progress
from rich.table import Column, Table

from benchmarks.environment import environment, store
from benchmarks.honesty import (
    GRID,
    LEVELS,
    Truth,
    curves,
    judge_all,
    nll_difference,
    summary,
)
from benchmarks.labelled import Guess, Label, answer, guess, honesty, label, placement, sources
from benchmarks.person_free import false_people
from benchmarks.rivals import Eyes, Fitted, Seen, calibration_people, fitted_net, methods
from benchmarks.rtmdet import RtmDet
from benchmarks.wild import in_the_wild
from tracker import weights
from tracker.detector import Detector
from tracker.geometry import person_area
from tracker.pose import PoseNet
from tracker.training.data import HUMAN, Split, beside_box
from tracker.types import Detection, Frame, Mixture

TAILS = 3
"""Factors of the scale mixture: a fourth gains a thousandth of a nat."""


def main(
    data: Path,
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    split: str = "dev",
    pose: str = "nano",
    detector: str = "nano",
    plots: Path | None = None,
    seed: int = 0,
    card: bool = False,
    fitted: tuple[str, ...] = (),
    witness: Path | None = None,
) -> None:
    """Measure the networks on labelled pictures.

    Args:
        data: Folder in the packed format.
        json_path: Where the result goes.
        split: Which index of the folder.
        pose: A shipped pose network or an .onnx with its card.
        detector: A shipped detector or an .onnx with its card.
        plots: Folder for pictures of the curves (needs matplotlib).
        seed: Of the draws, the halves that are told and the bootstrap.
        card: Also write the numbers into the model cards.
        fitted: Pose networks of `surepose fit-sampler`, FILE or FILE=NETWORK.
        witness: RTMDet-nano (.onnx), which tells who else is in the pictures (`completed`).
    """
    split_data = Split.load(data, split)
    net, finder = PoseNet.load(pose), Detector.load(detector)
    human, astray = split_data["person_keypoint_source"] == HUMAN, beside_box(split_data)
    rows = np.nonzero(human & ~astray)[0].tolist()
    labels = [label(split_data, row) for row in rows]
    eyes = Eyes.open(net, weights.find("pose", pose).path, dict(map(fitted_net, fitted)))
    seen = eyes.look(split_data, rows)
    groups = sources(split_data, labels)
    result = first_look(labels, seen, net, groups)
    trusted = calibrated(data, eyes)
    predictions = {
        "shipped": shipped(seen, net),
        "flip_test": in_the_mirror_too(split_data, rows, net),
    }
    predictions |= {name: method(seen) for name, method in trusted.items()}
    result["methods"] = compare(labels, predictions, groups, seed)
    result["coverage_grid"] = GRID.tolist()
    result["calibrations"] = {name: method.record() for name, method in trusted.items()}
    result["left_out"] = int((human & astray).sum())
    result |= in_the_wild(split_data, net, finder, RtmDet(witness) if witness else None)
    result["false_people"] = false_people(split_data, finder, net)
    show(result)
    if json_path is not None:
        record = {"split": split, "seed": seed, **result, "environment": environment()}
        store(json_path, record)
    if plots is not None:
        from benchmarks.calibration_plots import draw

        draw(result, plots)
    if card:
        write_card(weights.find("pose", pose), split, ours=result["ours"])
        found = {"boxes": result["detector"], "false_people": result["false_people"]}
        write_card(weights.find("detector", detector), split, **found)


def first_look(
    labels: Sequence[Label], seen: Seen, net: PoseNet, groups: dict[str, list[int]]
) -> dict[str, Any]:
    """What the README tells: our pose with its ellipses, the teacher's points."""
    poses = [
        replace(pose, mixture=mixture)
        for pose, mixture in zip(seen.ours, shipped(seen, net), strict=True)
    ]
    ours = [guess(person.image, found) for person, found in zip(labels, poses, strict=True)]
    teacher = [
        Guess(person.image, found[:, :2], float(found[:, 2].mean()))
        for person, found in zip(labels, seen.teacher, strict=True)
    ]
    result: dict[str, Any] = {"ours": {}, "teacher": {}}
    for name, mine in groups.items():
        people = [labels[i] for i in mine]
        for who, guesses in (("ours", ours), ("teacher", teacher)):
            result[who][name] = placement(people, [guesses[i] for i in mine])
        result["ours"][name] |= honesty(people, [poses[i] for i in mine])
    return result


def shipped(seen: Seen, net: PoseNet) -> list[Mixture]:
    """The network's mixtures with the calibration of its card."""
    return [
        Mixture(p.mean, net.calibration.cov(p.cov), net.calibration.log_weight(p.log_weight))
        for p in (pose.mixture for pose in seen.ours)
    ]


def in_the_mirror_too(split: Split, rows: Sequence[int], net: PoseNet) -> list[Mixture]:
    """What it says of the same people when it looks at everybody twice."""
    twice = replace(net, flip_test=True)
    return [
        twice(
            Frame(split.decode(int(split["person_img"][row])), 0, 0.0),
            [Detection(split["person_box"][row].astype(np.float64), 1.0)],
        )[0].mixture
        for row in progress(rows, "mirror", transient=True)
    ]


def calibrated(data: Path, eyes: Eyes) -> dict[str, Fitted]:
    """Every method that can be, fitted in both forms on the people kept from training."""
    if not (data / "train.npz").is_file():
        Console(stderr=True).print(f"no rivals: {data} has no train.npz to calibrate them on")
        return {}
    if eyes.heatmaps is None:
        Console(stderr=True).print("no heatmap methods: they need torch (the extra 'train')")
    held = calibration_people(Split.load(data, "train"), eyes)
    fitted = {
        name + ending: method.calibrate(held, tails)
        for ending, tails in (("", 1), ("+tails", TAILS))
        for name, method in progress(
            methods(eyes.others).items(), "calibration" + ending, transient=True
        )
    }
    return {name: method for name, method in fitted.items() if method is not None}


def compare(
    labels: Sequence[Label],
    predictions: dict[str, list[Mixture]],
    groups: dict[str, list[int]],
    seed: int,
) -> dict[str, Any]:
    """Judge every method on every person, and sum up by source."""
    people = [Truth(p.keypoints, p.labelled, p.area) for p in labels]
    judged = {
        # The same seed for all: the same halves are told.
        name: judge_all(people, mixtures, np.random.default_rng(seed))
        for name, mixtures in progress(predictions.items(), "methods", transient=True)
    }
    result: dict[str, Any] = {}
    for name, mixtures in predictions.items():
        guesses = [best_guess(p, m) for p, m in zip(labels, mixtures, strict=True)]
        ours = judged.get("ours+tails" if name.endswith("+tails") else "ours", judged["shipped"])
        result[name] = {
            group: placement([labels[i] for i in mine], [guesses[i] for i in mine])
            | summary([judged[name][i] for i in mine])
            | {
                "nll_behind_ours": nll_difference(
                    [ours[i] for i in mine],
                    [judged[name][i] for i in mine],
                    np.random.default_rng(seed),
                )
            }
            for group, mine in groups.items()
        }
        result[name]["all"]["curves"] = curves(judged[name])
    return result


def best_guess(person: Label, mixture: Mixture) -> Guess:
    """The answer of a mixture; its score is the OKS that the mixture expects of it."""
    return Guess(person.image, *answer(mixture, float(person_area(person.box))))


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=140)
    table = Table("source", "network", "people", "AP", "AP50", "AR", "PCK@0.1", "ellipses")
    for source in result["ours"]:
        for who in ("ours", "teacher"):
            row = result[who][source]
            numbers = [f"{row[key]:.3f}" for key in ("ap", "ap50", "ar", "pck10")]
            table.add_row(source, who, str(row["people"]), *numbers, _percent(row.get("coverage")))
    console.print(table)
    for source in result["ours"]:
        console.print(honesty_table(source, result["methods"]))
    for name in ("detector", "end_to_end"):
        if result[name] is not None:
            console.print(name, _rounded(result[name]))
    console.print("false people", _rounded(result["false_people"]))


def honesty_table(source: str, methods: dict[str, Any]) -> Table:
    """One line for each method."""
    columns = ("NLL", "behind ours", "pose", "keypoint", "ECE", "energy", "TAC", "control", "AUSE")
    table = Table(Column(source, no_wrap=True), "AP", *columns)
    for name, by_source in methods.items():
        row = by_source[source]
        behind = row["nll_behind_ours"]
        table.add_row(
            name,
            f"{row['ap']:.3f}",
            f"{row['nll']:.2f}",
            f"{behind['mean']:+.2f} ± {behind['standard_error']:.2f}",
            _percent(row["coverage_pose"]),
            _percent(row["coverage_keypoint"]),
            f"{row['ece_oks']:.3f}",
            f"{row['energy_score']:.2f}",
            f"{row['tac']['gain']:+.3f}",
            f"{row['tac']['control_gain']:+.3f}",
            f"{row['ause']:.3f}",
        )
    return table


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _rounded(value) if isinstance(value, dict) else round(value, 3)
        for key, value in numbers.items()
    }


def _percent(coverage: dict[str, Any] | None) -> str:
    """The shares inside the regions of `LEVELS`."""
    return " ".join(f"{100 * coverage[f'{p:.0%}']:.0f}" for p in LEVELS) if coverage else ""


def write_card(found: weights.Weights, split: str, **metrics: Any) -> None:
    """Put the numbers where people look for them."""
    card = found.card | {"metrics": {"split": split, **metrics}}
    store(found.path.with_suffix(".json"), card)


if __name__ == "__main__":
    tyro.cli(main)
