"""AUTOMATIC1111's API (`/sdapi/v1/`), which Open WebUI, SillyTavern, LibreChat and many bots speak.

Its facts: github.com/AUTOMATIC1111/stable-diffusion-webui, modules/api. Requests go to the same desk as all others,
with the same keys and limits.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from fewstep.serving.engine.accounting import Caller
from fewstep.serving.engine.desk import AnswerOptions, Desk
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.errors import Cancelled, InputError
from fewstep.serving.http import a1111_translation as translation
from fewstep.serving.http.a1111_lists import add_lists, add_tools
from fewstep.serving.http.a1111_progress import Drawings
from fewstep.serving.http.a1111_schemas import ImageToImage, TextToImage
from fewstep.serving.http.api_errors import ApiError
from fewstep.serving.http.bodies import read_json
from fewstep.serving.http.openapi import ERRORS, json_body
from fewstep.serving.http.pieces import InPieces
from fewstep.serving.http.waiting import until_disconnected

T = TypeVar("T", bound=BaseModel)

PREFIX = "/sdapi/v1"
PREVIEWS = 1
"""Intermediate pictures of a request, for `progress`."""


def a1111_router(desk: Desk) -> APIRouter:
    """The routes.

    Args:
        desk: the desk that draws.
    """
    router = APIRouter(prefix=PREFIX, responses=ERRORS)
    drawings = Drawings()

    async def drawn(request: Request, body: TextToImage) -> Response:
        """Draw what a message asks for. Its images, which may be large, are released once they are decoded."""
        caller, sources, body = _caller(request), translation.sources_of(body), body.without_images()
        drawing = await until_disconnected(
            request,
            desk.draw(
                partial(translation.request_of, body),
                sources,
                caller,
                AnswerOptions(Encoding("png", 100), PREVIEWS, steps=True),
                lambda answer: json.dumps(translation.answer_of(answer, body)),
                body.model_name and translation.plain_name(body.model_name),
            ),
        )
        del sources
        with drawings.begun(caller.client, drawing) as one:
            try:
                async with drawing:
                    text = await until_disconnected(request, one.answer())
                    return InPieces(text, {}, drawing.keep())
            except Cancelled:
                if not one.interrupted.is_set():
                    raise
                return Response(json.dumps(translation.nothing(body)), media_type="application/json")

    async def read(request: Request, kind: type[T]) -> T:
        try:
            return await read_json(request, kind)
        except (ApiError, InputError):
            desk.refuse(_caller(request))
            raise

    @router.post("/txt2img", openapi_extra=json_body(TextToImage))
    async def text_to_image(request: Request) -> Response:
        """Draw images from a prompt."""
        return await drawn(request, await read(request, TextToImage))

    @router.post("/img2img", openapi_extra=json_body(ImageToImage))
    async def image_to_image(request: Request) -> Response:
        """Draw images from an image: all of it, or what its mask lets change."""
        return await drawn(request, await read(request, ImageToImage))

    @router.get("/progress")
    async def progress(request: Request) -> dict[str, Any]:
        """Tell how far this client's oldest request is."""
        return drawings.progress(_caller(request).client)

    @router.post("/interrupt")
    @router.post("/skip")
    async def interrupt(request: Request) -> dict[str, Any]:
        """Stop this client's requests; they are answered without images."""
        drawings.interrupt(_caller(request).client)
        return {}

    add_lists(router, desk)
    add_tools(router)
    return router


def _caller(request: Request) -> Caller:
    state = request.state
    return Caller("a1111", state.client, state.owner, None, state.id, state.arrived, state.quota)
