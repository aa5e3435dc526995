"""Where frames come from. Video libraries are loaded by the source that needs them, when opened."""

from pathlib import Path

from tracker.errors import SourceError
from tracker.sources.base import Source

__all__ = ["Source", "open_source"]

_STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "tcp", "udp", "srt")


def open_source(spec: str, *, seed: int = 0) -> Source:
    """Open what a user names.

    Args:
        spec: `demo` (a drawn scene), a camera index, the URL of a stream, a folder of images or a
            video file.
        seed: of the drawn scene.

    Raises:
        SourceError: it cannot be opened; the message says why and what to do.
    """
    if spec == "demo":
        from tracker.sources.synthetic import SceneSource

        return SceneSource(seed=seed)
    if spec.isascii() and spec.isdigit():
        from tracker.sources.camera import open_camera

        return open_camera(int(spec))
    scheme, colon, _ = spec.partition("://")
    if colon:
        if scheme.lower() not in _STREAMS:
            raise SourceError(
                f"cannot read {scheme}:// addresses; use one of {', '.join(_STREAMS)}, or a path"
            )
        from tracker.sources.stream import open_stream

        return open_stream(spec)
    try:
        return _open_path(Path(spec))
    except OSError as error:
        raise SourceError(f"cannot read {spec}: {error.strerror or error}") from error


def _open_path(path: Path) -> Source:
    if path.is_dir():
        from tracker.sources.folder import Folder

        return Folder(path)
    if not path.exists():
        raise SourceError(
            f"no such file or folder: {path}; "
            "a source is a path, a camera index (0, 1, …), a URL or the word demo"
        )
    from tracker.sources.file import open_file

    return open_file(path)
