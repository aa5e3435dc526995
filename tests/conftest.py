"""One profile for all laws: fixed seeds, and no deadline, for the machine may be busy."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

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
