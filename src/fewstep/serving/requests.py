"""Each request gets an id, which its answer, its log line and its errors carry. Pure ASGI: streams pass untouched."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("fewstep.serving")
_ID = re.compile(rb"[\w.-]{1,64}")


class Identified:
    """Names and logs the requests of an application; prompts are no part of it.

    Args:
        answered: told each request's route, status and seconds.
        app: whose requests.
    """

    def __init__(self, answered: Callable[[str, int, float], None], app: ASGIApp) -> None:
        self._answered, self._app = answered, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        name = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["id"] = name
        started, status = time.perf_counter(), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            spent = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            self._answered(route, status, spent)
            log.info("%s %s %d %.1f ms request=%s", scope["method"], route, status, 1000 * spent, name)
