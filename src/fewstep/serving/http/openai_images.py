"""OpenAI's Images API: generations, edits, variations, models, and the files behind `url` answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from fewstep.serving.engine.accounting import Caller
from fewstep.serving.engine.desk import Answer, Desk, PartialImage, PendingAnswer
from fewstep.serving.engine.errors import InputError
from fewstep.serving.engine.inputs import SourceImages
from fewstep.serving.http import bodies
from fewstep.serving.http.api_errors import ApiError, as_api_error
from fewstep.serving.http.openai_translation import answer_of, output_of, partial_event, request_of
from fewstep.serving.http.openapi import ANSWERS, ERRORS, FILE, edit_body, json_body
from fewstep.serving.http.pieces import InPieces
from fewstep.serving.http.schemas import Bodies, ImageFields, ImagesAnswer, ModelInfo, ModelList
from fewstep.serving.http.security import UrlSigner
from fewstep.serving.http.waiting import until_disconnected

BodyReader = Callable[[Request], Awaitable[tuple[ImageFields, SourceImages]]]
Rendered = tuple[ImagesAnswer, str]
"""An answer and its JSON, which is made in the job's thread."""


def images_router(desk: Desk, signer: UrlSigner, public_url: str | None = None) -> APIRouter:
    """The routes.

    Args:
        desk: the desk that draws.
        signer: signs the URLs of `url` answers.
        public_url: URL at which clients reach this server behind a proxy.
    """
    router = APIRouter(prefix="/v1", responses=ERRORS)
    kinds = Bodies.within(desk.limits)
    prompt_body, image_body = json_body(kinds.generation), edit_body(kinds.edit_form, kinds.edit_json)
    read_generation, read_edit = partial(bodies.generation, kinds), partial(bodies.edit, kinds)

    async def accepted(
        request: Request, read: BodyReader, prompt_from_image: bool = False
    ) -> tuple[ImageFields, PendingAnswer[Rendered]]:
        """The fields of a request and its pending answer. Its images, which may be large, are released on return."""
        try:
            fields, sources = await read(request)
        except (ApiError, InputError):
            desk.refuse(_caller(request))
            raise
        base_url = public_url or str(request.base_url).rstrip("/")
        drawing = desk.draw(
            partial(request_of, fields, prompt_from_image=prompt_from_image, most_steps=desk.limits.max_steps),
            sources,
            _caller(request, fields.session),
            output_of(fields),
            partial(_rendered, fields, partial(signer.url, base_url)),
            fields.model,
        )
        return fields, await until_disconnected(request, drawing)

    @router.post("/images/generations", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=prompt_body)
    async def generations(request: Request) -> Response:
        """Draw images from a prompt."""
        return await _answered(request, *await accepted(request, read_generation), "image_generation")

    @router.post("/images/edits", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=image_body)
    async def edits(request: Request) -> Response:
        """Draw images from an image: all of it, or only what its mask lets change."""
        return await _answered(request, *await accepted(request, read_edit), "image_edit")

    @router.post("/images/variations", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=image_body)
    async def variations(request: Request) -> Response:
        """Draw other versions of an image, with the prompt in its record if none is given."""
        return await _answered(request, *await accepted(request, read_edit, True), "image_edit")

    @router.get("/images/files/{id}", response_class=Response, responses=FILE)
    async def file(request: Request, id: str, signature: str = "") -> Response:
        """Load an image drawn before, by its id; a signed URL needs no API key."""
        owner = None if signer.is_valid(id, signature) else request.state.owner
        found = desk.loader.find(id, owner, "id")
        return Response(found.data, media_type=found.mime, headers={"cache-control": "private, immutable"})

    @router.get("/models", response_model=ModelList)
    async def models() -> ModelList:
        """List the models that requests may name."""
        return ModelList(data=[_model_info(desk, name) for name in (None, *desk.host.named)])

    @router.get("/models/{name:path}", response_model=ModelInfo)
    async def model(name: str) -> ModelInfo:
        """Describe one model; an alias describes the model behind it."""
        return _model_info(desk, name)

    return router


def _caller(request: Request, session: str | None = None) -> Caller:
    state = request.state
    return Caller("http", state.client, state.owner, session, state.id, state.arrived, state.quota)


def _model_info(desk: Desk, name: str | None) -> ModelInfo:
    """The model of a name; None for the first one."""
    saved, first = desk.host.saved(name), desk.host.model
    about = {
        "hash": saved.hash,
        "native_size": f"{saved.spec.pixels[-1]}x{saved.spec.pixels[-2]}",
        "steps": saved.spec.steps,
        "licence": saved.spec.licence,
        "engine": first.engine,
        "precision": first.precision,
        "loaded": saved.spec.name in (first.name, *desk.host.others.loaded),
    }
    return ModelInfo(id=saved.spec.name, created=0, about=about)


def _rendered(fields: ImageFields, url_of: Callable[[str], str], answer: Answer) -> Rendered:
    rendered = answer_of(answer, fields, url_of)
    return rendered, rendered.model_dump_json()


async def _answered(request: Request, fields: ImageFields, drawing: PendingAnswer[Rendered], event: str) -> Response:
    if fields.stream:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_events(fields, drawing, event), media_type="text/event-stream", headers=headers)
    async with drawing:
        answer, text = await until_disconnected(request, drawing.answer())
        place = drawing.keep()
    return InPieces(text, _server_timing(answer), place)


async def _events(fields: ImageFields, drawing: PendingAnswer[Rendered], event: str) -> AsyncIterator[str]:
    """Server-sent events: the partial images, then each image of the answer, or the error in its place."""
    sent = 0
    async with drawing:
        async for part in drawing.events():
            if isinstance(part, PartialImage):
                named = {"type": f"{event}.partial_image", "partial_image_index": sent}
                yield _sse({**named, **partial_event(part, fields)})
                sent += 1
        try:
            answer, _ = await drawing.answer()
        except (
            Exception
        ) as error:  # the stream has begun, so the status can no longer say it, and the desk has logged it
            yield _sse(as_api_error(error).body)
            return
        for completed in _completed(answer, event):
            yield _sse(completed)


def _completed(answer: ImagesAnswer, event: str) -> Iterator[dict[str, Any]]:
    shared = answer.model_dump(exclude={"data", "created"})
    for image in answer.data:
        own = image.model_dump(exclude={"url", "revised_prompt", "b64_json"})
        named = {"type": f"{event}.completed", "b64_json": image.b64_json, "created_at": answer.created}
        yield {**named, **shared, **own}


def _sse(body: dict[str, Any]) -> str:
    kind = f"event: {body['type']}\n" if "type" in body else ""
    return f"{kind}data: {json.dumps(body, separators=(',', ':'))}\n\n"


def _server_timing(answer: ImagesAnswer) -> dict[str, str]:
    """The Server-Timing header (W3C) with each stage."""
    return {"server-timing": ", ".join(f"{stage};dur={value:.2f}" for stage, value in answer.timings.items())}
