"""The web server, on a thread beside the run."""

import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from tracker.errors import TrackerError

log = logging.getLogger(__name__)


class Server:
    """Serves an application while it is entered."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Take the address.

        Raises:
            TrackerError: it is taken, or not one of this machine.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise TrackerError(
                f"cannot serve on {host}:{port}: {error.strerror or error}; "
                "choose another --host or --port"
            ) from error
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._socket.getsockname()[1]}/"
        # No log of accesses: an address may hold the token.
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="web", daemon=True
        )

    def __enter__(self) -> "Server":
        self._thread.start()
        log.info("the page is at %s", self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(5.0)
        self._socket.close()
