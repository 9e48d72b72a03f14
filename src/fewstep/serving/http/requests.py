"""Each request gets an id, which its answer, its log line and its errors carry, and a span. Pure ASGI: streams pass
untouched."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.serving.engine.metrics import Metrics
from fewstep.serving.engine.tracing import Traces, answered

log = logging.getLogger("fewstep.serving")
_ID = re.compile(rb"[\w.-]{1,64}")


class RequestContext:
    """Names, counts, traces and logs the requests of an application; prompts are no part of it.

    Args:
        app: whose requests.
        metrics, traces: told of each.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, traces: Traces) -> None:
        self._app, self._metrics, self._traces = app, metrics, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        name = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)
        started, status = time.perf_counter(), 0
        scope.setdefault("state", {}).update(id=name, arrived=started)

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
            await send(message)

        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        with self._traces.request(scope["method"], headers) as span:
            try:
                await self._app(scope, receive, named)
            finally:
                spent = time.perf_counter() - started
                route = getattr(scope.get("route"), "path", None)
                self._metrics.answered(route or "other", status, spent)
                log.info("%s %s %d %.1f ms request=%s", scope["method"], route or "other", status, 1000 * spent, name)
                if span is not None:
                    span.set_attribute("fewstep.request_id", name)
                    answered(span, scope["method"], route, status)
