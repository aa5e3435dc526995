"""Views without people, cut from labelled pictures: does the detector find somebody there?

For each picture the largest strip beside, above or below all of its people, where that is large
enough. COCO's pictures are left out: not everybody in them is labelled.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from tracker.detector import Detector
from tracker.pose import PoseNet
from tracker.training.data import Split, box_labels, empty_strip
from tracker.types import Frame

SHOW_PEOPLE = frozenset({55, 298, 588})
"""Pictures of dev whose strip shows people after all (a full stand, passers-by, somebody's legs):
all strips were looked at."""
LEAST_SIDE = 96
"""Narrower strips are no pictures, px."""


def false_people(split: Split, finder: Detector, net: PoseNet) -> dict[str, float]:
    """How many people there are said to be in a view where nobody is.

    `views`; `per_view` by the detector alone, `per_view_looked_at` once the pose network has looked
    at what the detector found.
    """
    alone, both = [], []
    for view in views(split):
        frame = Frame(view, 0, 0.0)
        found = finder(frame)
        alone.append(len(found))
        both.append(sum(pose.detection.score >= finder.threshold for pose in net(frame, found)))
    means = [float(np.mean(counts)) if counts else 0.0 for counts in (alone, both)]
    return {"views": len(alone), "per_view": means[0], "per_view_looked_at": means[1]}


def views(split: Split) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The strips of all pictures, RGB."""
    names = split["sources"].tolist()
    for image, people in enumerate(box_labels(split)):
        shown = split.name == "dev" and image in SHOW_PEOPLE
        if names[split["img_source"][image]] == "coco" or shown:
            continue
        x0, y0, x1, y1 = empty_strip(people.box, split["img_wh"][image]).astype(int)
        if min(x1 - x0, y1 - y0) >= LEAST_SIDE:
            yield np.ascontiguousarray(split.decode(image)[y0:y1, x0:x1])
