"""What changes the server while it runs: `/admin`, for keys with the scope admin."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from fewstep.serving.engine.desk import Desk
from fewstep.serving.http.openapi import ERRORS


def admin_router(desk: Desk) -> APIRouter:
    """The routes.

    Args:
        desk: the desk that draws.
    """
    router = APIRouter(prefix="/admin", responses=ERRORS)

    @router.post("/models/reload")
    async def reload() -> dict[str, list[str]]:
        """Take new versions of the models whose files have changed; requests that have begun keep the old ones."""
        return {"changed": await asyncio.to_thread(desk.host.reload)}

    @router.get("/models")
    async def models() -> dict[str, list[str]]:
        """List the models that requests may name, and those that are in memory."""
        host = desk.host
        return {
            "served": [host.model.name, *host.named],
            "loaded": [runtime.model.name for runtime in host.runtimes],
        }

    return router
