"""OpenAI's Images API: generations, edits, variations, models, and the files behind `url` answers."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from fewstep.generation import Request as DrawRequest
from fewstep.generation.images import prompt_of
from fewstep.generation.plan import Progress
from fewstep.serving import uploads
from fewstep.serving.drawing import Upload, answer_of, partial_image, request_of
from fewstep.serving.errors import ApiError
from fewstep.serving.openapi import ANSWERS, ERRORS, FILE, FILES, JSON
from fewstep.serving.runtime import Busy, Cancelled, Drawn, Job, ShuttingDown, Stopped, Superseded
from fewstep.serving.schemas import (
    Asked,
    EditFields,
    Generation,
    ImagesAnswer,
    ModelInfo,
    ModelList,
)
from fewstep.serving.service import Service

log = logging.getLogger("fewstep.serving")
T = TypeVar("T", bound=Asked)


def images_router(service: Service) -> APIRouter:
    """The routes, for one service."""
    router = APIRouter(prefix="/v1", responses=ERRORS)
    settings = service.settings

    @router.post("/images/generations", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=JSON)
    async def generations(request: Request) -> Response:
        """Images from a prompt."""
        asked = _validated(Generation, await _json(request))
        upload = Upload()
        if asked.control is not None:
            data = await uploads.from_url(asked.control, "control", settings)
            upload = Upload(control=await asyncio.to_thread(uploads.picture, data, "control", settings.most_pixels))
        return await _answer(service, request, asked, upload, "image_generation")

    @router.post("/images/edits", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=FILES)
    async def edits(request: Request) -> Response:
        """Images from an image: what its mask leaves open is drawn anew, or all of it."""
        asked, upload = await _edit_fields(service, request)
        return await _answer(service, request, asked, upload, "image_edit")

    @router.post("/images/variations", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=FILES)
    async def variations(request: Request) -> Response:
        """Other versions of an image: of what its record says it shows, if it has one."""
        asked, upload = await _edit_fields(service, request)
        asked = asked.model_copy(update={"prompt": asked.prompt or upload.prompt})
        return await _answer(service, request, asked, upload, "image_edit")

    @router.get("/images/files/{handle}", response_class=Response, responses=FILE)
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
    if name in (None, served, *service.settings.aliases):
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


async def _edit_fields(service: Service, request: Request) -> tuple[EditFields, Upload]:
    """An edit's fields and pictures, from a form or from JSON."""
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await _json(request)
        images = body.pop("images", None)
        if not isinstance(images, list) or len(images) != 1:
            raise ApiError(400, "images must be a list of one object with image_url or file_id", "images")
        image = await _named(service, images[0], "images")
        given = body.pop("mask", None)
        mask = None if given is None else await _named(service, given, "mask")
        fields: dict[str, Any] = body
    else:
        form = await request.form(max_files=17, max_fields=100)
        found = await _file(form, "image", "image[]")
        if found is None:
            raise ApiError(400, "image must be a file", "image")
        image, mask = found, await _file(form, "mask")
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
    asked = _validated(EditFields, fields)
    most = service.settings.most_pixels
    opened = await asyncio.to_thread(uploads.picture, image, "image", most)
    opened_mask = None if mask is None else await asyncio.to_thread(uploads.picture, mask, "mask", most)
    return asked, Upload(opened, opened_mask, prompt=prompt_of(opened))


async def _file(form: FormData, *names: str) -> bytes | None:
    """The one file of a form by any of these names; None if there is none."""
    values = [value for name in names for value in form.getlist(name)]
    files = [value for value in values if isinstance(value, UploadFile)]
    if len(files) > 1 or len(files) < len(values):
        raise ApiError(400, f"{names[0]} must be one file, got {len(values)} values", names[0])
    return await files[0].read() if files else None


async def _named(service: Service, source: Any, param: str) -> bytes:
    """The file that a JSON body names: an image of an earlier answer by its id, or a URL."""
    if not isinstance(source, dict) or len(source.keys() & {"file_id", "image_url"}) != 1:
        raise ApiError(400, f"{param} must be an object with either image_url or file_id", param)
    if "image_url" in source:
        return await uploads.from_url(source["image_url"], param, service.settings)
    kept = service.store.get(str(source["file_id"]))
    if kept is None:
        raise ApiError(400, f"{param}: there is no image by that file_id, or no more", param, "not_found")
    return kept.data


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
    spans = service.traces.here()
    if service.settings.log_prompts:
        log.info("prompt %r request=%s", wanted.prompt, request.state.id)
    base = service.settings.public_url or str(request.base_url).rstrip("/")

    def finish(drawn: Drawn) -> tuple[ImagesAnswer, str]:
        answer = answer_of(service, asked, drawn, base)
        service.traces.stages(spans, answer.timings)
        return answer, answer.model_dump_json()

    submit = partial(_submit, service, wanted, finish, client, session, request.state.arrived)
    if asked.stream:
        return await _stream(service, asked, wanted, submit, event)
    job = await submit(None)
    answer, text = await _result(service, request, job)
    return Response(text, media_type="application/json", headers=_timing_headers(answer))


async def _submit(
    service: Service,
    wanted: DrawRequest,
    finish: Callable[[Drawn], Any],
    client: str,
    session: str | None,
    arrived: float,
    seen: Callable[[Progress], None] | None,
) -> Job[Any]:
    try:
        return await service.submit(wanted, finish, client, session, seen, arrived)
    except Busy as error:
        wait = {
            "retry-after-ms": str(int(1000 * error.retry_after)),
            "retry-after": str(-int(-error.retry_after // 1)),
        }
        raise ApiError(429, str(error), None, "queue_full", wait) from None
    except Stopped as error:
        raise _stopped(error) from None


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
    except asyncio.CancelledError:  # the server's patience has ended
        closing = ShuttingDown("the server is closing")
        service.runtime.stop(job, closing)
        raise _stopped(closing) from None
    finally:
        gone.cancel()


def _stopped(error: Stopped) -> ApiError:
    if isinstance(error, ShuttingDown):
        return ApiError(503, str(error), None, "closing", {"x-should-retry": "false"})
    code = "superseded" if isinstance(error, Superseded) else "cancelled"
    return ApiError(499, str(error), None, code, {"x-should-retry": "false"})


async def _disconnected(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


async def _stream(
    service: Service,
    asked: Asked,
    wanted: DrawRequest,
    submit: Callable[[Callable[[Progress], None] | None], Awaitable[Job[tuple[ImagesAnswer, str]]]],
    event: str,
) -> Response:
    loop = asyncio.get_running_loop()
    partials: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    sent = 0

    def seen(progress: Progress) -> None:
        nonlocal sent
        if progress.jump.index not in _shown(progress.steps, asked.partial_images):
            return
        body = partial_image(service.model.preview(wanted, progress), asked)
        named = {"type": f"{event}.partial_image", "partial_image_index": sent, **body}
        loop.call_soon_threadsafe(partials.put_nowait, named)
        sent += 1

    job = await submit(seen if asked.partial_images else None)
    job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(partials.put_nowait, None))

    async def events() -> AsyncIterator[str]:
        try:
            while (part := await partials.get()) is not None:
                yield _sse(part)
            try:
                answer, _ = await asyncio.wrap_future(job.future)
            except Stopped as error:
                yield _sse(_stopped(error).body)
                return
            except Exception:  # the answer has begun: its status can tell no more
                log.exception("a stream failed")
                yield _sse(ApiError(500, "something went wrong here; the log has more").body)
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


def _sse(body: dict[str, Any]) -> str:
    kind = f"event: {body['type']}\n" if "type" in body else ""
    return f"{kind}data: {json.dumps(body, separators=(',', ':'))}\n\n"


def _timing_headers(answer: ImagesAnswer) -> dict[str, str]:
    """Server-Timing (W3C) of each stage."""
    return {"server-timing": ", ".join(f"{stage};dur={value:.2f}" for stage, value in answer.timings.items())}
