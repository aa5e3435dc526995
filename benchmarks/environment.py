"""Records of results: where a number was measured is kept with it."""

import json
from collections.abc import Mapping
from pathlib import Path

from tracker.environment import environment

__all__ = ["environment", "store"]


def store(path: Path, record: Mapping[str, object]) -> None:
    """Write a result as JSON; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
