"""The server, put together: one service behind OpenAI's Images API, health and metrics, guarded."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from mcp.server.transport_security import TransportSecuritySettings
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import fewstep
from fewstep.generation import RequestError
from fewstep.serving.engine.jobs import ShuttingDown
from fewstep.serving.engine.metrics import CONTENT_TYPE
from fewstep.serving.engine.service import Service
from fewstep.serving.http.bodies import from_validation
from fewstep.serving.http.errors import ApiError
from fewstep.serving.http.live import live_router
from fewstep.serving.http.openai_images import images_router
from fewstep.serving.http.requests import RequestContext
from fewstep.serving.http.security import ApiKeyAuth, HostGuard
from fewstep.serving.mcp.server import mcp_server
from fewstep.serving.studio.pages import pages_router

log = logging.getLogger(__name__)


def build_app(service: Service) -> FastAPI:
    """The application of one service, unguarded: for `guarded`."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(asyncio.to_thread(service.warm_up))
        warming.add_done_callback(_stop_if_failed)
        async with mcp.session_manager.run():
            yield
        await asyncio.to_thread(service.close)
        await asyncio.gather(warming, return_exceptions=True)

    mcp = mcp_server(service)
    mcp_app = mcp.streamable_http_app(
        streamable_http_path="/mcp",
        stateless_http=True,
        max_request_body_size=service.settings.max_body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # `HostGuard` has looked
    )
    app = FastAPI(
        title="fewstep",
        version=fewstep.__version__,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # `RequestContext` makes the spans
    )
    app.include_router(images_router(service))
    app.include_router(live_router(service))
    app.include_router(pages_router())

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"description": "Not yet, or no more."}})
    async def ready() -> Response:
        """Whether it can draw: 503 until the model is warm, and when it can no more."""
        state = service.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters and latency histograms, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    app.router.routes.extend(mcp_app.routes)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(RequestError)
    async def wrong(request: Request, error: RequestError) -> Response:
        return JSONResponse(ApiError(400, str(error), error.field).body, 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        refused = from_validation(error.errors())
        return JSONResponse(refused.body, refused.status)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if error.status_code == 404:
            said = f"there is nothing at {request.url.path[:200]}: /openapi.json says what there is"
        if error.status_code == 405:
            said = f"{request.method} is none of the methods here: {(error.headers or {}).get('Allow', '')}"
        return JSONResponse(ApiError(error.status_code, said).body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.exception("request %s failed", request.state.id)
        return JSONResponse(ApiError(500, "something went wrong here; the log has more").body, 500)

    return app


def _stop_if_failed(warming: asyncio.Task[None]) -> None:
    """A server that cannot draw one image ends, as if told to, instead of never being ready."""
    error = None if warming.cancelled() else warming.exception()
    if error is not None and not isinstance(error, ShuttingDown):
        log.error("the first image failed: %s", error)
        signal.raise_signal(signal.SIGTERM)


def guarded(service: Service) -> ASGIApp:
    """The application as the world may see it."""
    settings = service.settings
    own = ("localhost", "127.0.0.1", "::1", settings.host.strip("[]").lower())
    names = () if settings.without_keys and not settings.hosts else (*own, *settings.hosts)
    app: ASGIApp = ApiKeyAuth(build_app(service), service.keys, settings.max_body_bytes)
    if settings.origins:  # outside the keys, so that a page can read why it was refused
        app = CORSMiddleware(
            app, settings.origins, allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=_EXPOSED
        )
    return RequestContext(HostGuard(app, names, settings.origins), service.metrics, service.traces)


_EXPOSED = ("retry-after", "retry-after-ms", "server-timing", "x-request-id", "x-should-retry")
"""Headers of answers that pages from elsewhere may read."""
