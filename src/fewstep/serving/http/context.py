"""The context of each HTTP request: a span, and an id that is part of its response, log lines and errors.

Pure ASGI, so that streams pass through unchanged.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.serving.engine.metrics import Metrics
from fewstep.serving.engine.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger("fewstep.serving")
_ID = re.compile(rb"[\w.-]{1,64}")


class RequestContext:
    """Gives each request an id, and counts, traces and logs HTTP requests without their contents.

    Args:
        app: the application behind it.
        metrics, traces: where requests are recorded.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, traces: Traces) -> None:
        self._app, self._metrics, self._traces = app, metrics, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            scope.setdefault("state", {}).update(id=_id(scope))
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        id = _id(scope)
        started, status = time.perf_counter(), 0
        scope.setdefault("state", {}).update(id=id, arrived=started)

        async def identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", id.encode())]
            await send(message)

        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        with self._traces.received(scope["method"], headers) as span:
            try:
                await self._app(scope, receive, identified)
            finally:
                spent = time.perf_counter() - started
                route = getattr(scope.get("route"), "path", None)
                self._metrics.http_request(route or "other", status, spent)
                if status >= 400:
                    self._metrics.refused(scope["state"].get("refusal", "invalid_request_error"))
                log.info(
                    "%s %s %d %.1f ms request=%s%s",
                    scope["method"], route or "other", status, 1000 * spent, id, _who(scope),
                )  # fmt: skip
                if span is not None:
                    span.set_attribute("fewstep.request_id", id)
                    _answered(span, scope["method"], route, status)


def _id(scope: Scope) -> str:
    """The client's X-Request-ID if it is a short plain name, else a new id."""
    given: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)


def _who(scope: Scope) -> str:
    """The address and the name of the key of a request, as the end of a log line."""
    address, name = (scope.get("client") or ("",))[0], scope["state"].get("key_name")
    return f" address={address}" + (f" key={name!r}" if name else "")


def _answered(span: Span, method: str, route: str | None, status: int) -> None:
    """Add the response to the request's span, with OpenTelemetry's attribute names; status 500 and above is an error.

    Paths are left out, since they contain the ids of images.
    """
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.request.method", method)
    if route is not None:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    if status:
        span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
