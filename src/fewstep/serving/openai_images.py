"""OpenAI's Images API: generations, edits, variations, models, and the files behind `url` answers."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from fewstep.generation.images import to_image
from fewstep.generation.model import Progress
from fewstep.serving import uploads
from fewstep.serving.drawing import Upload, answer_of, preview, request_of
from fewstep.serving.errors import ApiError
from fewstep.serving.runtime import Busy, Cancelled, Drawn, Job, ShuttingDown, Stopped
from fewstep.serving.schemas import (
    Asked,
    EditFields,
    ErrorBody,
    Generation,
    ImagesAnswer,
    ModelInfo,
    ModelList,
)
from fewstep.serving.service import Service

T = TypeVar("T", bound=Asked)

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "A field is wrong; `param` names it."},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {"model": ErrorBody, "description": "The queue is full; `retry-after-ms` says when to come back."},
    499: {"model": ErrorBody, "description": "A newer request of the same session took this one's place."},
    503: {"model": ErrorBody, "description": "The server is closing."},
}


def images_router(service: Service) -> APIRouter:
    """The routes, for one service."""
    router = APIRouter(prefix="/v1", responses=ERRORS)
    settings = service.settings

    @router.post("/images/generations", response_model=ImagesAnswer, openapi_extra=_JSON)
    async def generations(request: Request) -> Response:
        """Images from a prompt."""
        asked = _validated(Generation, await _json(request))
        return await _answer(service, request, asked, Upload(), "image_generation")

    @router.post("/images/edits", response_model=ImagesAnswer, openapi_extra=_FILES)
    async def edits(request: Request) -> Response:
        """Images from an image: what its mask leaves open is drawn anew, or all of it."""
        asked, upload = await _edit_fields(request, settings.most_pixels)
        return await _answer(service, request, asked, upload, "image_edit")

    @router.post("/images/variations", response_model=ImagesAnswer, openapi_extra=_FILES)
    async def variations(request: Request) -> Response:
        """Other versions of an image."""
        asked, upload = await _edit_fields(request, settings.most_pixels)
        return await _answer(service, request, asked, upload, "image_edit")

    @router.get("/images/files/{handle}", response_class=Response)
    async def file(handle: str) -> Response:
        """An image of an earlier answer."""
        kept = service.store.get(handle)
        if kept is None:
            raise ApiError(404, "there is no such image, or no more", "handle", "not_found")
        return Response(kept.data, media_type=kept.mime, headers={"cache-control": "private, immutable"})

    @router.get("/models", response_model=ModelList)
    async def models() -> ModelList:
        """The models by which clients may ask."""
        return ModelList(data=[_model_info(service)])

    @router.get("/models/{name:path}", response_model=ModelInfo)
    async def model(name: str) -> ModelInfo:
        """One model; an alias tells of the model behind it."""
        _check_model(service, name)
        return _model_info(service)

    return router


_JSON: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": Generation.model_json_schema()}},
    }
}
_FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "mask": {"type": "string", "format": "binary"},
                        **EditFields.model_json_schema()["properties"],
                    },
                }
            }
        },
    }
}


def _model_info(service: Service) -> ModelInfo:
    model = service.runtime.model
    about = {
        "hash": model.hash,
        "native_size": "{}x{}".format(*model.native_size),
        "steps": model.spec.steps,
        "licence": model.spec.licence,
        "engine": model.engine,
        "precision": model.precision,
    }
    return ModelInfo(id=model.name, created=0, about=about)


def _check_model(service: Service, name: str | None) -> None:
    served = service.runtime.model.name
    if name in (None, served) or service.settings.aliases.get(name or "") in ("", served):
        return
    raise ApiError(404, f"there is no model '{name}': this server has '{served}'", "model", "model_not_found")


async def _json(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, f"the body must be a JSON object, got {type(body).__name__}")
    return body


async def _edit_fields(request: Request, most_pixels: int) -> tuple[EditFields, Upload]:
    """An edit's fields and pictures, from a form or from JSON with data URLs."""
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await _json(request)
        images = body.pop("images", None)
        if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], dict):
            raise ApiError(400, "images must be a list of one object with image_url", "images")
        mask = body.pop("mask", None)
        return _validated(EditFields, body), Upload(
            uploads.from_data_url(str(images[0].get("image_url")), "images", most_pixels),
            uploads.from_data_url(str(mask.get("image_url")), "mask", most_pixels)
            if isinstance(mask, dict)
            else None,
        )
    form = await request.form(max_files=17, max_fields=100)
    files = [value for key in ("image", "image[]") for value in form.getlist(key)]
    if len(files) != 1 or not isinstance(files[0], UploadFile):
        raise ApiError(400, f"image must be one file, got {len(files)}", "image")
    masks = [value for value in form.getlist("mask") if isinstance(value, UploadFile)]
    fields = {key: value for key, value in form.items() if isinstance(value, str)}
    return _validated(EditFields, fields), Upload(
        uploads.picture(await files[0].read(), "image", most_pixels),
        uploads.picture(await masks[0].read(), "mask", most_pixels) if masks else None,
    )


def _validated(kind: type[T], values: Any) -> T:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise from_validation(error.errors()) from None


def from_validation(errors: Any) -> ApiError:
    """The first of pydantic's complaints as an API error."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    name = ".".join(place) or None
    got = first.get("input")
    shown = f", got {str(got)[:80]!r}" if name and not isinstance(got, (dict, list)) else ""
    return ApiError(400, f"{name or 'the body'}: {first['msg']}{shown}", name, first["type"])


async def _answer(service: Service, request: Request, asked: Asked, upload: Upload, event: str) -> Response:
    _check_model(service, asked.model)
    client = request.state.client
    session = None if asked.session is None else f"{client}/{asked.session}"
    wanted = request_of(asked, service.settings, upload)
    base = service.settings.public_url or str(request.base_url).rstrip("/")

    def finish(drawn: Drawn) -> tuple[ImagesAnswer, str]:
        answer = answer_of(service, asked, drawn, base)
        return answer, answer.model_dump_json()

    if asked.stream:
        return await _stream(service, asked, wanted, finish, client, session, event)
    job = _submit(service, wanted, finish, client, session, None)
    answer, text = await _result(service, request, job)
    return Response(text, media_type="application/json", headers=_timing_headers(answer))


def _submit(
    service: Service,
    wanted: Any,
    finish: Callable[[Drawn], Any],
    client: str,
    session: str | None,
    seen: Callable[[Progress], None] | None,
) -> Job[Any]:
    try:
        return service.runtime.submit(wanted, finish, client, session, seen)
    except Busy as error:
        wait = {
            "retry-after-ms": str(int(1000 * error.retry_after)),
            "retry-after": str(-int(-error.retry_after // 1)),
        }
        raise ApiError(429, str(error), None, "queue_full", wait) from None
    except ShuttingDown as error:
        raise ApiError(503, str(error), None, "closing", {"x-should-retry": "false"}) from None


async def _result(service: Service, request: Request, job: Job[Any]) -> Any:
    """The job's answer; a client that goes away stops it."""
    result = asyncio.ensure_future(asyncio.wrap_future(job.future))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            service.runtime.stop(job, Cancelled("the client went away"))
        return await result
    except Stopped as error:
        raise _stopped(error) from None
    finally:
        gone.cancel()


def _stopped(error: Stopped) -> ApiError:
    if isinstance(error, ShuttingDown):
        return ApiError(503, str(error), None, "closing", {"x-should-retry": "false"})
    return ApiError(499, str(error), None, "superseded", {"x-should-retry": "false"})


async def _disconnected(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


async def _stream(
    service: Service,
    asked: Asked,
    wanted: Any,
    finish: Callable[[Drawn], tuple[ImagesAnswer, str]],
    client: str,
    session: str | None,
    event: str,
) -> Response:
    loop = asyncio.get_running_loop()
    partials: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
    spec = service.runtime.model.spec
    sent = 0

    def seen(progress: Progress) -> None:
        nonlocal sent
        if progress.jump.index not in _shown(progress.steps, asked.partial_images):
            return
        picture = to_image(progress.previews[0], spec.pixel_format)
        loop.call_soon_threadsafe(partials.put_nowait, (sent, preview(picture, asked)))
        sent += 1

    job = _submit(service, wanted, finish, client, session, seen if asked.partial_images else None)
    job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(partials.put_nowait, None))

    async def events() -> AsyncIterator[str]:
        try:
            while (part := await partials.get()) is not None:
                index, data = part
                body = {
                    "type": f"{event}.partial_image",
                    "partial_image_index": index,
                    **_picture(asked, data, wanted),
                }
                yield _sse(body)
            try:
                answer, _ = await asyncio.wrap_future(job.future)
            except Stopped as error:
                yield _sse(_stopped(error).body)
                return
            for image in answer.data:
                own = image.model_dump(exclude={"url", "revised_prompt", "b64_json"})
                rest = answer.model_dump(exclude={"data", "created"})
                yield _sse(
                    {
                        "type": f"{event}.completed",
                        "b64_json": image.b64_json,
                        "created_at": answer.created,
                        **rest,
                        **own,
                    }
                )
        finally:
            service.runtime.stop(job, Cancelled("the client went away"))

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _shown(steps: int, partial_images: int) -> set[int]:
    """After which jumps a partial image is sent: evenly spread over those before the last."""
    between = steps - 1
    count = min(partial_images, between)
    return {math.ceil((i + 1) * (between + 1) / (count + 1)) - 1 for i in range(count)}


def _picture(asked: Asked, data: bytes, wanted: Any) -> dict[str, Any]:
    return {
        "b64_json": base64.b64encode(data).decode(),
        "created_at": int(time.time()),
        "size": asked.size or "auto",
        "quality": "auto",
        "background": asked.background or "auto",
        "output_format": asked.output_format,
    }


def _sse(body: dict[str, Any]) -> str:
    kind = f"event: {body['type']}\n" if "type" in body else ""
    return f"{kind}data: {json.dumps(body, separators=(',', ':'))}\n\n"


def _timing_headers(answer: ImagesAnswer) -> dict[str, str]:
    """Server-Timing (W3C) of each stage."""
    return {"server-timing": ", ".join(f"{stage};dur={value:.2f}" for stage, value in answer.timings.items())}
