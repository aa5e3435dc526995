"""Follow the people in a video and say where each left wrist is, and how sure that is.

    python examples/01_track_a_video.py [SOURCE]

SOURCE is a file, a camera's index, an address or, when left out, the drawn demo scene.
"""

import sys

import numpy as np

import tracker

LEFT_WRIST = tracker.COCO17.keypoint_names.index("left_wrist")


def main(source: str = "demo", max_frames: int | None = 60) -> None:
    for tracked in tracker.track(source, max_frames=max_frames):
        for person in tracked.tracks:
            x, y = person.keypoints[LEFT_WRIST]
            # Half the longest axis of the 95 % ellipse: √5.99 standard deviations.
            reach = np.sqrt(5.99 * np.linalg.eigvalsh(person.keypoint_cov[LEFT_WRIST])[-1])
            print(
                f"{tracked.frame.time:6.3f} s  person {person.id} ({person.status}): left wrist"
                f" at ({x:.1f}, {y:.1f}) px, within {reach:.1f} px,"
                f" visible {person.visible[LEFT_WRIST]:.0%}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:2])
