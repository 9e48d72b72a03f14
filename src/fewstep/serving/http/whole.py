"""Bodies that are received before an application sees the request."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class WholeBody:
    """Gives an application its request once the body is there: a client that leaves before is none of its errors.

    Args:
        app: the application behind, of HTTP requests only; bodies are bounded in front of this one.
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
        waiting = iter(received)

        async def again() -> Message:
            return next(waiting, None) or await receive()

        await self._app(scope, again, send)
