"""The drawn scene as a source."""

from collections.abc import Iterator
from itertools import cycle

from tracker.demo import Scene
from tracker.types import Frame


class SceneSource:
    """The frames of a scene, drawn when they are asked for."""

    name = "demo"
    live = False

    def __init__(self, scene: Scene | None = None, *, seed: int = 0, endless: bool = False) -> None:
        """An endless one is played to and fro, so that nobody jumps."""
        self.scene = Scene(seed) if scene is None else scene
        self._endless = endless

    @property
    def fps(self) -> float | None:
        return self.scene.fps

    @property
    def frame_count(self) -> int | None:
        return None if self._endless else self.scene.n_frames

    def __iter__(self) -> Iterator[Frame]:
        there = range(self.scene.n_frames)
        order = cycle([*there, *there[-2:0:-1]]) if self._endless else there
        for i, shown in enumerate(order):
            yield Frame(self.scene.render(shown), i, i / self.scene.fps)

    def __enter__(self) -> "SceneSource":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""
