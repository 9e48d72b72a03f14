"""Every error of the application as an answer in the form of OpenAI's API."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fewstep.serving.engine.validation import invalid
from fewstep.serving.http.api_errors import ApiError, DrawError, as_api_error

log = logging.getLogger(__name__)


def add_error_handlers(app: FastAPI) -> None:
    """Add the handlers."""

    async def refused(request: Request, error: Exception) -> Response:
        answer = as_api_error(error)
        request.state.refusal = answer.reason
        return JSONResponse(answer.body_at(request.url.path), answer.status, answer.headers)

    for kind in (ApiError, ClientDisconnect, *DrawError):
        app.add_exception_handler(kind, refused)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return await refused(request, invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if error.status_code == 404:
            said = f"there is nothing at {request.url.path[:200]}: /openapi.json lists what there is"
        if error.status_code == 405:
            said = f"{request.method} is not allowed here, only {(error.headers or {}).get('Allow', '')}"
        answer = ApiError(error.status_code, said)
        return JSONResponse(answer.body_at(request.url.path), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.exception("request %s failed", request.state.id)
        return await refused(request, error)
