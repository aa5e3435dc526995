"""One profile for all laws: fixed seeds, and no deadline, for the machine may be busy."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tracker.demo import Scene
from tracker.types import Detection, Frame

settings.register_profile("surepose", deadline=None, derandomize=True)
settings.load_profile("surepose")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Commands set up the logs of their process, and tests call them in this one."""
    loggers = [logging.getLogger(name) for name in (None, "engines", "tracker")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def drawn_people():
    """Frames of a drawn scene, each with the boxes of those who can be seen."""
    scene = Scene(seed=4, n_people=4, n_frames=60)
    return [
        (
            Frame(scene.render(i), i, i / 30),
            [Detection(p.box, 1.0) for p in scene.truth(i) if p.seen > 0.5],
        )
        for i in range(0, 60, 6)
    ]
