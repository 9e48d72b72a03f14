"""The assembled server: one desk behind OpenAI's Images API, AUTOMATIC1111's, the live wire, MCP and the studio."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from mcp.server.transport_security import TransportSecuritySettings
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

import fewstep
from fewstep.generation import Model, load
from fewstep.measure.judges import Recogniser
from fewstep.models.saved import SavedModel
from fewstep.serving.engine.accounting import Accounting
from fewstep.serving.engine.desk import Desk
from fewstep.serving.engine.errors import ShuttingDown
from fewstep.serving.engine.host import ModelHost
from fewstep.serving.engine.inputs import ImageLoader
from fewstep.serving.engine.jobs import Recognition
from fewstep.serving.engine.local_runtime import LocalRuntime
from fewstep.serving.engine.memory_store import MemoryStore
from fewstep.serving.engine.metrics import CONTENT_TYPE, Metrics
from fewstep.serving.engine.shelf import GRACE, Shelf
from fewstep.serving.engine.tracing import Traces
from fewstep.serving.engine.uploads import ImageDecoder
from fewstep.serving.http.context import RequestContext
from fewstep.serving.http.handlers import add_error_handlers
from fewstep.serving.http.routes import add_routes
from fewstep.serving.http.security import Access, ApiKeyAuth, HostGuard
from fewstep.serving.http.whole import HeadAsGet, WholeBody
from fewstep.serving.mcp.server import mcp_server
from fewstep.serving.settings import ServeSettings
from fewstep.serving.studio.pages import pages_router

log = logging.getLogger(__name__)


def build_desk(
    settings: ServeSettings, model: Model, traces: Traces | None = None, others: Sequence[SavedModel] = ()
) -> Desk:
    """The desk for a loaded model, in this process.

    Args:
        settings: settings of the server.
        model: the model that draws unless a request names another.
        traces: where spans go.
        others: models that are loaded when a request names them.
    """
    metrics = Metrics()

    def run(loaded: Model) -> LocalRuntime:
        judge = loaded.saved.judge
        recognise = None if judge is None else partial(_recognised, Recogniser(judge))
        return LocalRuntime(
            loaded,
            settings.jobs,
            settings.max_waiting,
            settings.max_batch,
            settings.network_cpus,
            metrics,
            recognise,
        )

    def load_like(saved: SavedModel) -> Model:
        return load(saved.directory, model.engine, model.device, settings.threads, model.precision)

    shelf = Shelf(
        {saved.spec.name: saved for saved in others},
        load_like,
        run,
        settings.model_bytes,
        settings.unload_seconds,
    )
    host = ModelHost(
        run(model), shelf, settings.aliases, settings.max_batch, lambda: run(load_like(host.model.saved))
    )
    metrics.watch(lambda: host.waiting, lambda: host.running)
    metrics.watch_models(lambda: [(runtime.model.name, runtime.model.hash) for runtime in host.runtimes])
    store = MemoryStore(settings.keep_images, settings.keep_bytes, settings.keep_seconds)
    decoder = ImageDecoder(settings.max_pixels, settings.max_held_pixels)
    loader = ImageLoader(store, decoder, settings.fetch_images, settings.max_body_bytes)
    accounting = Accounting(metrics, traces or Traces(), settings.log_prompts)
    return Desk(host, store, loader, settings.limits, accounting, settings.max_answer_pixels)


def _recognised(judge: Recogniser, pixels: Any) -> Sequence[Recognition]:
    verdict = judge(pixels)
    assert verdict.confidence is not None  # a recogniser's always has one
    return [
        Recognition(name, round(float(confidence), 4))
        for name, confidence in zip(verdict.names, verdict.confidence, strict=True)
    ]


def build_app(desk: Desk, settings: ServeSettings, announce: Callable[[], None] = lambda: None) -> FastAPI:
    """The application without its guards.

    Args:
        desk: the desk that draws.
        settings: settings of the server.
        announce: called when it is ready to draw.
    """

    def warm_up() -> None:
        desk.host.warm_up()
        announce()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(asyncio.to_thread(warm_up))
        warming.add_done_callback(_stop_if_failed)
        tidying = asyncio.create_task(_tidy(desk))
        async with mcp.session_manager.run():
            yield
        tidying.cancel()
        await asyncio.to_thread(desk.close, settings.shutdown_timeout)
        await asyncio.gather(warming, return_exceptions=True)

    mcp = mcp_server(desk)
    mcp_app = mcp.streamable_http_app(
        streamable_http_path="/mcp",
        stateless_http=True,
        max_request_body_size=settings.max_body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # `HostGuard` does it
    )
    app = FastAPI(
        title="fewstep",
        version=fewstep.__version__,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # `RequestContext` makes the spans
    )
    add_routes(app, desk, settings.public_url)
    app.include_router(pages_router())
    _add_health(app, desk)
    for route in mcp_app.routes:
        app.router.routes.append(Route(route.path, WholeBody(route.app)) if isinstance(route, Route) else route)
    add_error_handlers(app)
    return app


async def _tidy(desk: Desk) -> None:
    """Close, now and then, the models that nobody uses."""
    while True:
        await asyncio.sleep(GRACE)
        await asyncio.to_thread(desk.host.others.tidy)


def _add_health(app: FastAPI, desk: Desk) -> None:
    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Tell whether the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"description": "Not ready yet, or no longer."}})
    async def ready() -> Response:
        """Tell whether the server can draw: 503 until the model is warm, and after it can no longer draw."""
        state = desk.host.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Give counters and latency histograms for Prometheus."""
        return Response(desk.accounting.metrics.text(), media_type=CONTENT_TYPE)


def _stop_if_failed(warming: asyncio.Task[None]) -> None:
    """Stop as on SIGTERM if the first image failed, instead of never becoming ready."""
    error = None if warming.cancelled() else warming.exception()
    if error is not None and not isinstance(error, ShuttingDown):
        log.error("the first image failed: %s", error)
        signal.raise_signal(signal.SIGTERM)


def guarded(
    desk: Desk, settings: ServeSettings, announce: Callable[[], None] = lambda: None, access: Access | None = None
) -> ASGIApp:
    """The application behind its guards: hosts, origins and API keys.

    Args:
        desk: the desk that draws.
        settings: settings of the server.
        announce: called when it is ready to draw.
        access: who may call; None to take it from the settings.

    Raises:
        ValueError: the keys file holds no keys.
    """
    access = access or settings.access()
    app: ASGIApp = HeadAsGet(build_app(desk, settings, announce))
    app = ApiKeyAuth(app, access, settings.max_body_bytes)
    app = Cors(app, access)  # outside the keys, so that a page can read why it was refused
    accounting = desk.accounting
    return RequestContext(HostGuard(app, access), accounting.metrics, accounting.traces)


class Cors(CORSMiddleware):
    """Lets pages of the allowed origins read answers.

    Args:
        app: the application behind it.
        access: who may call.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        super().__init__(app, allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=_EXPOSED)
        self._access = access

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether pages of an origin may call."""
        return origin in self._access.origins


_EXPOSED = ("retry-after", "retry-after-ms", "server-timing", "x-request-id", "x-should-retry")
"""Response headers that pages from other origins may read."""
