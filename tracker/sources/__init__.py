"""Where frames come from. Video libraries are loaded by the source that needs them, when opened."""

from math import inf
from pathlib import Path

from tracker.errors import SourceError
from tracker.sources.base import DEFAULT, LiveConfig, Source
from tracker.sources.secrets import without_secrets

__all__ = ["LiveConfig", "Source", "open_source"]

_STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "tcp", "udp", "srt")


def open_source(
    spec: str, *, seed: int = 0, fps: float | None = None, config: LiveConfig = DEFAULT
) -> Source:
    """Open what a user names.

    Args:
        spec: `demo` (a drawn scene; endless, where it is played like a camera), a camera index, the
            URL of a stream, a folder of images or a video file.
        seed: of the drawn scene.
        fps: frames a second at which a file or folder was filmed: by default a file's own times,
            25 for a folder.
        config: of a camera or stream.

    Raises:
        SourceError: it cannot be opened; the message says why and what to do.
    """
    if fps is not None and not 0 < fps < inf:
        raise ValueError(f"fps must be more than 0, got {fps}")
    if fps is not None and (spec == "demo" or is_live(spec)):
        raise SourceError(
            f"{without_secrets(spec)} has times of its own: fps is for files and folders"
        )
    if spec == "demo":
        from tracker.sources.synthetic import SceneSource

        return SceneSource(seed=seed, endless=config.buffer == "latest")
    if is_live(spec):
        return _open_live(spec, config)
    try:
        return _open_path(Path(spec), fps)
    except OSError as error:
        raise SourceError(
            f"cannot read {without_secrets(spec)}: {error.strerror or error}"
        ) from error


def is_live(spec: str) -> bool:
    """Whether this names a camera or an address."""
    return (spec.isascii() and spec.isdigit()) or "://" in spec


def _open_live(spec: str, config: LiveConfig) -> Source:
    if "://" not in spec:
        from tracker.sources.camera import open_camera

        return open_camera(int(spec), config=config)
    if (scheme := spec.partition("://")[0].lower()) not in _STREAMS:
        raise SourceError(
            f"cannot read {scheme}:// addresses; use one of {', '.join(_STREAMS)}, or a path"
        )
    from tracker.sources.stream import open_stream

    return open_stream(spec, config=config)


def _open_path(path: Path, fps: float | None) -> Source:
    if path.is_dir():
        from tracker.sources.folder import Folder

        return Folder(path, fps)
    if not path.exists():
        raise SourceError(
            f"no such file or folder: {without_secrets(str(path))}; "
            "a source is a path, a camera index (0, 1, …), a URL or the word demo"
        )
    from tracker.sources.file import open_file

    return open_file(path, fps)
