"""From the table of a run to joint angles with error bars, and to the tables of other tools.

    surepose track --source walk.mp4 --lag all --csv people.csv
    python examples/04_joint_angles.py people.csv

Prints the angle of each person's right knee over time, and writes beside the table a .trc of each
person (Sports2D, Pose2Sim, OpenSim) and one .csv in the manner of DeepLabCut. Needs pandas.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

KNEE = "right_hip", "right_knee", "right_ankle"


def main(table: str) -> None:
    path = Path(table)
    rows = pd.read_csv(path)
    rows = rows[rows["state"] == "confirmed"]  # those that are lost are predictions
    if rows.empty:
        sys.exit(f"nobody is in {table}")
    for track_id, of_person in rows.groupby("track_id"):
        person = wide(of_person)
        degrees, error = angle(person, *KNEE)
        for time, knee, bar in zip(person.index, degrees, error, strict=True):
            print(
                f"{time:7.3f} s  person {track_id}: right knee at {knee:5.1f}° ± {1.96 * bar:.1f}°"
            )
        write_trc(person, path.with_name(f"{path.stem}-{track_id}.trc"))
    deeplabcut(rows).to_csv(path.with_name(f"{path.stem}-deeplabcut.csv"))


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each time, one column for each value of each keypoint: person["x"]["nose"]."""
    values = ["x", "y", "var_x", "cov_xy", "var_y", "visible"]
    return rows.pivot(index="time_s", columns="keypoint", values=values)


def angle(person: pd.DataFrame, a: str, b: str, c: str) -> tuple[np.ndarray, np.ndarray]:
    """The angle abc, 0 to 180°, over time, and its standard error to first order, degrees.

    The table tells how each keypoint errs by itself; how they err together is in `Track.pose`.
    """
    u, v = _points(person, a) - _points(person, b), _points(person, c) - _points(person, b)
    cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    turn = np.arctan2(cross, (u * v).sum(axis=1))
    # A point at p from b turns by one over its distance for each px across.
    by_a = u[:, ::-1] * [1, -1] / (u**2).sum(axis=1, keepdims=True)
    by_c = v[:, ::-1] * [-1, 1] / (v**2).sum(axis=1, keepdims=True)
    slopes = {a: by_a, b: -by_a - by_c, c: by_c}
    variance = sum(np.einsum("ta,tab,tb->t", g, _cov(person, k), g) for k, g in slopes.items())
    return np.degrees(np.abs(turn)), np.degrees(np.sqrt(variance))


def write_trc(person: pd.DataFrame, path: Path) -> None:
    """One person as markers in px, y up; frames in which the person is missing are left out."""
    names, n = list(person["x"].columns), len(person)
    rate = 1 / np.median(np.diff(person.index)) if n > 1 else 30.0
    with path.open("w") as file:
        file.write(f"PathFileType\t4\t(X/Y/Z)\t{path.name}\n")
        file.write(
            "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits"
            "\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
            f"{rate:.3f}\t{rate:.3f}\t{n}\t{len(names)}\tpx\t{rate:.3f}\t1\t{n}\n"
        )
        file.write("Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t\n\t")
        file.write("".join(f"\tX{i}\tY{i}\tZ{i}" for i in range(1, len(names) + 1)) + "\n")
        points = np.stack([person["x"], -person["y"], 0 * person["x"]], axis=-1).reshape(n, -1)
        for frame, (time, row) in enumerate(zip(person.index, points, strict=True), start=1):
            file.write("\t".join([str(frame), f"{time:.6f}", *(f"{x:.3f}" for x in row)]) + "\n")


def deeplabcut(rows: pd.DataFrame) -> pd.DataFrame:
    """Everybody as a multi-animal table: scorer, individuals, bodyparts, coords; likelihood."""
    told = rows.rename(columns={"visible": "likelihood", "keypoint": "bodyparts"})
    told = told.assign(individuals="person" + told["track_id"].astype(str), scorer="surepose")
    columns = ["scorer", "individuals", "bodyparts"]
    table = told.pivot(index="frame", columns=columns, values=["x", "y", "likelihood"])
    table.columns = table.columns.set_names("coords", level=0)
    table = table.reorder_levels([*columns, "coords"], axis=1)
    # As DeepLabCut has it, a row for every frame. Without a name of the index pandas would take a
    # first row of people not yet known for one.
    table = table.reindex(pd.RangeIndex(rows["frame"].max() + 1, name="frame"))
    return table.sort_index(axis=1, level=columns, sort_remaining=False)


def _points(person: pd.DataFrame, keypoint: str) -> np.ndarray:
    return np.stack([person[name][keypoint] for name in ("x", "y")], axis=-1)


def _cov(person: pd.DataFrame, keypoint: str) -> np.ndarray:
    names = ("var_x", "cov_xy", "cov_xy", "var_y")
    return np.stack([person[name][keypoint] for name in names], axis=-1).reshape(-1, 2, 2)


if __name__ == "__main__":
    main(*sys.argv[1:] or sys.exit(__doc__))
