"""The page and its feeds, as a web application.

| path | gives |
|---|---|
| `/` | the page |
| `/api/streams` | how each stream is |
| `/api/streams/NAME` | the newest people of one |
| `/api/streams/NAME/picture.jpg` | its newest picture with the tracks; `?width=PX` |
| `/api/tracks` (WebSocket) | every result as JSON, of all streams or of `?stream=NAME` |
| `/api/live` (WebSocket) | for the page: health, people and picture in turn, when asked |
| `/metrics`, `/healthz` | for machines |

The files of the page are named here one by one; nothing else on the disk can be reached.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tracker.live.board import Board
from tracker.live.guard import Guard
from tracker.live.metrics import Metrics
from tracker.live.picture import jpeg
from tracker.types import TrackedFrame

_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/uplot.css": ("uPlot.min.css", "text/css"),
    "/uplot.js": ("uPlot.iife.min.js", "text/javascript"),
}
_LOOK = 0.02
"""Between two looks for a new result, s: the results come from another thread."""
_PATIENCE = 0.5
"""The page hears how the streams are so often, s, also while nothing new comes."""
_WIDEST = 1280
"""Pictures are not sent larger, px."""


class Endpoints:
    """What the paths of the module's table give."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._metrics = Metrics(board)

    def routes(self) -> list[Route | WebSocketRoute]:
        return [
            *(Route(path, _file(*file)) for path, file in _PAGE.items()),
            Route("/api/streams", self.streams),
            Route("/api/streams/{stream}", self.people),
            Route("/api/streams/{stream}/picture.jpg", self.picture),
            WebSocketRoute("/api/tracks", self.tracks),
            WebSocketRoute("/api/live", self.live),
            Route("/metrics", self.metrics),
            Route("/healthz", self.healthz),
        ]

    async def streams(self, _: Request) -> Response:
        return JSONResponse(self._board.health())

    async def people(self, request: Request) -> Response:
        return JSONResponse(self._board.tracks(self._newest(request)))

    async def picture(self, request: Request) -> Response:
        tracked, width = self._newest(request), request.query_params.get("width", "")
        most = min(_WIDEST, int(width)) if width.isdecimal() and int(width) else _WIDEST
        return Response(await asyncio.to_thread(jpeg, tracked, most), media_type="image/jpeg")

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def healthz(self, _: Request) -> Response:
        summary = self._board.summary()
        return JSONResponse(summary, 200 if summary["status"] in ("ok", "degraded") else 503)

    async def tracks(self, socket: WebSocket) -> None:
        """Send every result; to a slow reader the newest."""
        wanted = socket.query_params.get("stream")
        if wanted is not None and wanted not in self._board.feeds:
            return await socket.close(4404, f"no stream is called {wanted}")
        await socket.accept()
        sent: dict[str, TrackedFrame] = {}
        gone = asyncio.ensure_future(_until_gone(socket))
        try:
            while not gone.done():
                for name in self._board.feeds if wanted is None else [wanted]:
                    tracked = self._board.newest(name)
                    if tracked is not None and tracked is not sent.get(name):
                        sent[name] = tracked
                        await socket.send_json(self._board.tracks(tracked))
                await asyncio.sleep(_LOOK)
        except WebSocketDisconnect:
            pass
        finally:
            gone.cancel()

    async def live(self, socket: WebSocket) -> None:
        """Answer each wish, the name of a stream, with what is new: JSON, then perhaps a JPEG.

        The page wishes for the next when it has shown the last: a slow line makes it miss
        pictures, not fall behind.
        """
        await socket.accept()
        shown: TrackedFrame | None = None
        try:
            while True:
                stream = await socket.receive_text()
                tracked = await self._next(stream, shown)
                new = tracked is not shown and tracked is not None
                people = self._board.tracks(tracked) if new and tracked is not None else None
                await socket.send_json({"streams": self._board.health(), "people": people})
                if new and tracked is not None:
                    await socket.send_bytes(await asyncio.to_thread(jpeg, tracked, _WIDEST))
                shown = tracked
        except WebSocketDisconnect:
            pass

    async def _next(self, stream: str, shown: TrackedFrame | None) -> TrackedFrame | None:
        """A result that is not the one shown; after a while that one again."""
        for _ in range(round(_PATIENCE / _LOOK)):
            if self._board.newest(stream) is not shown:
                break
            await asyncio.sleep(_LOOK)
        return self._board.newest(stream)

    def _newest(self, request: Request) -> TrackedFrame:
        stream = request.path_params["stream"]
        tracked = self._board.newest(stream)
        if tracked is None:
            known = stream in self._board.feeds
            raise HTTPException(
                503 if known else 404, "no picture yet" if known else "no such stream"
            )
        return tracked


def application(board: Board, token: str | None) -> Starlette:
    """The application; without a token it answers names of this machine only."""
    return Starlette(routes=Endpoints(board).routes(), middleware=[Middleware(Guard, token=token)])


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = files("tracker.live").joinpath("page", name).read_bytes()

    async def endpoint(request: Request) -> Response:
        del request
        return Response(content, media_type=media_type)

    return endpoint


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
