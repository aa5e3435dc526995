"""Where compiled plans are kept: one file each, as its library wrote it, and a JSON beside it.

A plan serves one graph on one GPU with one version of one library; all that it depends on makes its
key, and the sidecar spells the key out. `trtexec --loadEngine=FILE.plan` reads the plan as it is.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import platformdirs

from engines.backends import Precision, Shapes
from engines.errors import CacheError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that a plan depends on."""

    graph: str
    """The name of the graph, for people."""
    graph_sha256: str
    backend: str
    version: str
    """Of the library that built it."""
    gpu: str
    precision: Precision
    shapes: Shapes

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.spelled(), sort_keys=True).encode()).hexdigest()

    @property
    def stem(self) -> str:
        return f"{self.graph}-{self.backend}-{self.precision}-{self.digest[:16]}"

    def spelled(self) -> dict[str, Any]:
        """As JSON holds it."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True, slots=True)
class PlanCache:
    """A folder of plans."""

    folder: Path

    @classmethod
    def of_user(cls) -> "PlanCache":
        """$SUREPOSE_CACHE, or the place that the system keeps for caches."""
        chosen = os.environ.get("SUREPOSE_CACHE")
        return cls(Path(chosen) if chosen else platformdirs.user_cache_path("surepose") / "plans")

    def path(self, key: PlanKey) -> Path:
        return self.folder / f"{key.stem}.plan"

    def load(self, key: PlanKey) -> bytes | None:
        """The plan of this key, if it is whole; what is not is told in one line and passed over."""
        path = self.path(key)
        try:
            plan = path.read_bytes()
            sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read (%s): it is built again", path, error)
            return None
        if not isinstance(sidecar, dict) or sidecar.get("key") != key.spelled():
            log.warning("%s is of another graph, GPU or version: it is built again", path)
            return None
        if sidecar.get("sha256") != hashlib.sha256(plan).hexdigest():
            log.warning("%s is not the file of its JSON (damaged?): it is built again", path)
            return None
        return plan

    def store(self, key: PlanKey, plan: bytes, facts: Mapping[str, Any]) -> Path:
        """Keep a plan and its sidecar; no reader ever sees half of either.

        Raises:
            CacheError: the folder is full or cannot be written; nothing is left behind.
        """
        path = self.path(key)
        digest = hashlib.sha256(plan).hexdigest()
        sidecar = {"key": key.spelled(), "sha256": digest, "bytes": len(plan), **facts}
        text = json.dumps(sidecar, indent=2) + "\n"
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(path, plan)
            # Last: a plan without its own sidecar counts as none.
            _replace(path.with_suffix(".json"), text.encode())
        return path

    def check(self) -> None:
        """Raise CacheError where nothing can be written, before a build of minutes."""
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            NamedTemporaryFile(dir=self.folder, prefix=".check.").close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CacheError(
                f"cannot keep the plan in {self.folder}: {(error.strerror or str(error)).lower()}; "
                "free some space, or choose a folder by --cache or $SUREPOSE_CACHE"
            ) from error


def _replace(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            file.close()  # Windows replaces no open file
            os.replace(file.name, path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise
