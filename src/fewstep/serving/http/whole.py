"""Requests in the form that an application expects."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BOM = b"\xef\xbb\xbf"
"""The mark that some programs write before UTF-8."""


class WholeBody:
    """Gives an application its request once the body is there: a client that leaves before is none of its errors.

    Args:
        app: the application behind, of HTTP requests with JSON only; bodies are bounded in front of this one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ClientDisconnect if the client leaves while it sends."""
        received: list[Message] = [await receive()]
        while received[-1].get("more_body"):
            received.append(await receive())
        if received[-1]["type"] == "http.disconnect":
            raise ClientDisconnect
        received[0] = {**received[0], "body": received[0].get("body", b"").removeprefix(BOM)}
        waiting = iter(received)

        async def again() -> Message:
            return next(waiting, None) or await receive()

        await self._app(scope, again, send)


class HeadAsGet:
    """Answers HEAD wherever GET is answered; the server in front leaves out the body.

    Args:
        app: the application behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}  # a copy, since the server in front must still see HEAD
        try:
            await self._app(asked, receive, send)
        finally:
            scope.update({name: asked[name] for name in ("route", "endpoint") if name in asked})
