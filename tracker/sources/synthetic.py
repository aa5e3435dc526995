"""The drawn scene as a source."""

from collections.abc import Iterator
from types import TracebackType

from tracker.demo import Scene
from tracker.types import Frame


class SceneSource:
    """The frames of a scene, drawn when they are asked for."""

    name = "demo"
    live = False

    def __init__(self, scene: Scene | None = None, *, seed: int = 0) -> None:
        self.scene = Scene(seed) if scene is None else scene

    @property
    def fps(self) -> float | None:
        return self.scene.fps

    @property
    def frame_count(self) -> int | None:
        return self.scene.n_frames

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self.scene.n_frames):
            yield Frame(self.scene.render(i), i, i / self.scene.fps)

    def __enter__(self) -> "SceneSource":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to free."""
