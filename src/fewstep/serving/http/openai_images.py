"""OpenAI's Images API: generations, edits, variations, models, and the files behind `url` answers."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from fewstep.generation import Request as DrawRequest
from fewstep.generation.planning import Plan
from fewstep.generation.running import Progress
from fewstep.serving.engine.jobs import Busy, Cancelled, Drawn, Job, Stopped
from fewstep.serving.engine.service import Service
from fewstep.serving.http import bodies
from fewstep.serving.http.bodies import Sent
from fewstep.serving.http.drawing import answer_of, partial_image, planned, request_of
from fewstep.serving.http.errors import ApiError, busy, stopped
from fewstep.serving.http.openapi import ANSWERS, ERRORS, FILE, FILES, JSON
from fewstep.serving.http.schemas import ImageFields, ImagesAnswer, ModelInfo, ModelList
from fewstep.serving.http.waiting import result_of

log = logging.getLogger("fewstep.serving")


def images_router(service: Service) -> APIRouter:
    """The routes, for one service."""
    router = APIRouter(prefix="/v1", responses=ERRORS)

    @router.post("/images/generations", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=JSON)
    async def generations(request: Request) -> Response:
        """Images from a prompt."""
        order = await _order(service, request, bodies.generation)
        return await _answer(service, request, order, "image_generation")

    @router.post("/images/edits", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=FILES)
    async def edits(request: Request) -> Response:
        """Images from an image: what its mask leaves open is drawn anew, or all of it."""
        order = await _order(service, request, bodies.edit)
        return await _answer(service, request, order, "image_edit")

    @router.post("/images/variations", response_model=ImagesAnswer, responses=ANSWERS, openapi_extra=FILES)
    async def variations(request: Request) -> Response:
        """Other versions of an image: of what its record says it shows, if it has one."""
        order = await _order(service, request, bodies.edit, again=True)
        return await _answer(service, request, order, "image_edit")

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
    model = service.model
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
    served = service.model.name
    if name in (None, served, *service.settings.aliases):
        return
    raise ApiError(404, f"there is no model '{name}': this server has '{served}'", "model", "model_not_found")


@dataclass(frozen=True)
class _Order:
    """A request that can be queued.

    Args:
        asked: its fields.
        wanted, plan: what to draw.
        client, session: whose it is.
        arrived: when, by `time.perf_counter()`.
    """

    asked: ImageFields
    wanted: DrawRequest
    plan: Plan
    client: str
    session: str | None
    arrived: float


async def _order(
    service: Service,
    request: Request,
    body: Callable[[Service, Request], Awaitable[tuple[ImageFields, Sent]]],
    again: bool = False,
) -> _Order:
    """What a request wants. Nothing of it outlives this but what is needed to its end."""
    asked, sent = await body(service, request)
    _check_model(service, asked.model)
    client = request.state.client
    session = None if asked.session is None else f"{client}/{asked.session}"

    def ready() -> tuple[DrawRequest, Plan]:
        return planned(request_of(asked, service, sent.opened(service.pictures), again), service.model)

    if sent.any:  # pictures take their time to be decoded and become data
        with _refusing():
            service.runtime.check_room(client, session)
        wanted, plan = await asyncio.to_thread(ready)
    else:
        wanted, plan = ready()
    return _Order(asked, wanted, plan, client, session, request.state.arrived)


async def _answer(service: Service, request: Request, order: _Order, event: str) -> Response:
    spans = service.traces.here()
    if service.settings.log_prompts:
        log.info("prompt %r request=%s", order.wanted.prompt, request.state.id)
    base = service.settings.public_url or str(request.base_url).rstrip("/")

    def finish(drawn: Drawn) -> tuple[ImagesAnswer, str]:
        answer = answer_of(service, order.asked, drawn, base)
        service.traces.stages(spans, answer.timings)
        return answer, answer.model_dump_json()

    if order.asked.stream:
        return await _stream(service, order, finish, event)
    job = _submit(service, order, finish)
    answer, text = await result_of(service.runtime, request, job)
    return Response(text, media_type="application/json", headers=_timing_headers(answer))


def _submit(
    service: Service,
    order: _Order,
    finish: Callable[[Drawn], Any],
    seen: Callable[[Progress], None] | None = None,
) -> Job[Any]:
    with _refusing():
        return service.runtime.submit(
            order.wanted, finish, order.client, order.session, seen, order.arrived, order.plan
        )


@contextmanager
def _refusing() -> Iterator[None]:
    """A queue that takes no request, as an API error."""
    try:
        yield
    except Busy as error:
        raise busy(str(error), error.retry_after) from None
    except Stopped as error:
        raise stopped(error) from None


async def _stream(
    service: Service,
    order: _Order,
    finish: Callable[[Drawn], tuple[ImagesAnswer, str]],
    event: str,
) -> Response:
    asked = order.asked
    loop = asyncio.get_running_loop()
    partials: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    sent = 0

    def seen(progress: Progress) -> None:
        nonlocal sent
        if progress.jump.index not in _shown(progress.steps, asked.partial_images):
            return
        body = partial_image(service.model.preview(order.plan, progress), asked)
        named = {"type": f"{event}.partial_image", "partial_image_index": sent, **body}
        loop.call_soon_threadsafe(partials.put_nowait, named)
        sent += 1

    job = _submit(service, order, finish, seen if asked.partial_images else None)
    job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(partials.put_nowait, None))

    async def events() -> AsyncIterator[str]:
        try:
            while (part := await partials.get()) is not None:
                yield _sse(part)
            try:
                answer, _ = await asyncio.wrap_future(job.future)
            except Stopped as error:
                yield _sse(stopped(error).body)
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
