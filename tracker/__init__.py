"""People in live video, as smoothed tracks with honest error bars.

Names are loaded when they are first used, so that importing the package stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracker import yolo
    from tracker.detector import Detector
    from tracker.errors import SinkError, SourceError, TrackerError, WeightsError
    from tracker.overlay import draw
    from tracker.pipeline import PoseTracker, track
    from tracker.points import pose_from_points
    from tracker.pose import PoseNet
    from tracker.sinks.records import RecordWriter, read_records, records
    from tracker.sinks.video import VideoWriter
    from tracker.skeleton import COCO17, Skeleton
    from tracker.sources import open_source
    from tracker.tracks import MultiTracker, TrackerConfig
    from tracker.types import (
        Detection,
        Frame,
        Mixture,
        PoseMixture,
        Track,
        TrackedFrame,
        TrackStatus,
    )

__version__ = "0.1.0"

_HOME = {
    "COCO17": "skeleton",
    "Detection": "types",
    "Detector": "detector",
    "Frame": "types",
    "Mixture": "types",
    "MultiTracker": "tracks",
    "PoseMixture": "types",
    "PoseNet": "pose",
    "PoseTracker": "pipeline",
    "RecordWriter": "sinks.records",
    "SinkError": "errors",
    "Skeleton": "skeleton",
    "SourceError": "errors",
    "Track": "types",
    "TrackStatus": "types",
    "TrackedFrame": "types",
    "TrackerConfig": "tracks",
    "TrackerError": "errors",
    "VideoWriter": "sinks.video",
    "WeightsError": "errors",
    "draw": "overlay",
    "open_source": "sources",
    "pose_from_points": "points",
    "read_records": "sinks.records",
    "records": "sinks.records",
    "track": "pipeline",
    "yolo": "yolo",
}
"""Where each public name lives, a module in itself."""

__all__ = [
    "COCO17",
    "Detection",
    "Detector",
    "Frame",
    "Mixture",
    "MultiTracker",
    "PoseMixture",
    "PoseNet",
    "PoseTracker",
    "RecordWriter",
    "SinkError",
    "Skeleton",
    "SourceError",
    "Track",
    "TrackStatus",
    "TrackedFrame",
    "TrackerConfig",
    "TrackerError",
    "VideoWriter",
    "WeightsError",
    "draw",
    "open_source",
    "pose_from_points",
    "read_records",
    "records",
    "track",
    "yolo",
]

if not TYPE_CHECKING:  # for type checkers the names above are all there are

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOME[name]}")
        return home if _HOME[name] == name else getattr(home, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
