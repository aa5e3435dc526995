"""Who may look: anybody at this machine, and from elsewhere whoever knows the token.

The token comes as `Authorization: Bearer TOKEN`, or once as `/?token=TOKEN`, which a browser gets
back as a cookie. Without a token only names of this machine itself are answered, so that no page
from elsewhere can reach the server through a name of its own (DNS rebinding); WebSockets and their
pages must come from the same address.
"""

from secrets import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import URL, Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

_COOKIE = "surepose_token"
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_OPEN = ("/healthz",)
"""Paths that need no token: they tell nothing but whether all is well."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Lets those through who may look, and says the others no."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        if self._token is None and connection.url.hostname not in THIS_MACHINE:
            return await _refuse(scope, receive, send, "wrong host name; use 127.0.0.1", 403)
        if scope["type"] == "websocket" and not _same_origin(connection.headers):
            return await _refuse(scope, receive, send, "wrong origin", 403)
        if self._token is not None and scope["path"] not in _OPEN:
            if self._knows(connection.query_params.get("token")) and scope["path"] == "/":
                return await self._welcome(connection.url)(scope, receive, send)
            if not self._may(connection):
                return await _refuse(scope, receive, send, "the token is missing or wrong", 401)
        return await self._app(scope, receive, _with_headers(send))

    def _may(self, connection: HTTPConnection) -> bool:
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._knows(given)
        return self._knows(connection.cookies.get(_COOKIE))

    def _knows(self, given: str | None) -> bool:
        assert self._token is not None
        # In a time that does not tell how much of it was right.
        return given is not None and compare_digest(given.encode(), self._token.encode())

    def _welcome(self, url: URL) -> RedirectResponse:
        """The page again, its address without the token."""
        response = RedirectResponse("/", 303, _HEADERS)
        assert self._token is not None
        response.set_cookie(
            _COOKIE, self._token, httponly=True, samesite="strict", secure=url.scheme == "https"
        )
        return response


def _same_origin(headers: Headers) -> bool:
    """Browsers say where a page came from; programs need not."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str, status: int) -> None:
    if scope["type"] == "websocket":
        await WebSocketClose(4000 + status, why)(scope, receive, send)
    else:
        await PlainTextResponse(f"{why}\n", status, _HEADERS)(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = message.setdefault("headers", [])
            assert isinstance(present, list)
            present += [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
        await send(message)

    return sending
