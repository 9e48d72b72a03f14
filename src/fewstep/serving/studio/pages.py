"""The studio: static files of this package, served as they are, without a build step or external resources."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from fewstep.serving.engine.errors import NotFound

FILES = Path(__file__).parent
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""The page's content security policy: only resources from this server."""


def pages_router() -> APIRouter:
    """The routes of `/` and the files that it uses."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index(request: Request) -> Response:
        return _answer(request, "index.html")

    @router.get("/studio/{name}")
    async def file(request: Request, name: str) -> Response:
        return _answer(request, name)

    @router.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return _answer(request, "icon.svg")

    return router


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """The files of the folder by name, with their ETags; other names are not served."""
    found = {path.name: path.read_bytes() for path in FILES.iterdir() if path.suffix in KINDS}
    return {name: (data, f'"{hashlib.sha256(data).hexdigest()[:20]}"') for name, data in found.items()}


def _answer(request: Request, name: str) -> Response:
    found = _files().get(name)
    if found is None:
        raise NotFound("name", f"the studio has no file '{name[:100]}'", "not_found")
    data, tag = found
    headers = {"etag": tag, "cache-control": "no-cache", "content-security-policy": POLICY}
    headers |= {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=KINDS[Path(name).suffix], headers=headers)
