"""All routes of the server but MCP's, health and metrics."""

from __future__ import annotations

from fastapi import FastAPI

from fewstep.serving.engine.desk import Desk
from fewstep.serving.http.a1111 import a1111_router
from fewstep.serving.http.admin import admin_router
from fewstep.serving.http.live import live_router
from fewstep.serving.http.openai_images import images_router
from fewstep.serving.http.security import UrlSigner


def add_routes(app: FastAPI, desk: Desk, public_url: str | None = None) -> None:
    """Add the routes.

    Args:
        app: the application.
        desk: the desk that draws.
        public_url: URL at which clients reach this server behind a proxy.
    """
    app.include_router(images_router(desk, UrlSigner(), public_url))
    app.include_router(live_router(desk))
    app.include_router(a1111_router(desk))
    app.include_router(admin_router(desk))
