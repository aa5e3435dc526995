"""`surepose eval`."""

import json as json_format
from pathlib import Path
from typing import Annotated

import tyro

from tracker.commands.common import OptionalPath
from tracker.errors import SinkError, TrackerError


def eval(  # noqa: A001 - the name of the command
    truth: Annotated[Path, tyro.conf.Positional],
    tracks: Annotated[Path, tyro.conf.Positional],
    *,
    json: OptionalPath = None,
) -> int:
    """Tell how well tracks follow the people of a labelled video, and how honest they are.

    By boxes: HOTA, MOTA, IDF1 and identity switches (TrackEval). Where both files have keypoints
    also by OKS, and the errors of the keypoints, their jitter with its lag, and whether the error
    bars held. docs/evaluation.md explains the numbers.

    Args:
        truth: Labels: MOTChallenge boxes (gt.txt), COCO keypoints with track_id (.json), or a table
            like that of --csv.
        tracks: What to judge: the table of surepose track --csv, the boxes of --mot, or any of the
            above.
        json: Write the numbers here too.
    """
    from rich.console import Console
    from rich.table import Table

    from tracker.evaluation.files import read_people
    from tracker.evaluation.report import compare
    from tracker.sinks.base import writing

    if json is not None and json.resolve() in (truth.resolve(), tracks.resolve()):
        raise SinkError(f"{json} is also an input; give it its own path")
    labels, answer = read_people(truth), read_people(tracks)
    if not labels:
        raise TrackerError(f"{truth} tells of nobody: there is nothing to compare with")
    report = compare(labels, answer)
    table = Table(title=f"{tracks} against {truth}")
    for column in ("", "by boxes", "by keypoints"):
        table.add_column(column, justify="right" if column else "left")
    for row in report.rows():
        table.add_row(*row)
    Console().print(table)
    if json is not None:
        with writing(json):
            json.write_text(json_format.dumps(report.record(), indent=2) + "\n")
    return 0
