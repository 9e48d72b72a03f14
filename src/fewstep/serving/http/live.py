"""The live wire: one sketch after another up, one picture after another down, over a WebSocket or plain POSTs.

Both carry the same binary frames, so a client that is refused the WebSocket loses speed and nothing else. A frame
is the length of a JSON head (4 bytes, little-endian), the head, and then the pictures that it names, one by one.

Of a connection only the latest frame counts, as for `session` in the Images API: a newer one takes the place of one
that waits, and stops one that runs at its next jump. Each frame is answered exactly once, by its `seq`: with
pictures, or with why there are none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request, Response, WebSocket, WebSocketDisconnect
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewstep.data.styles import COLOURS, styles_of
from fewstep.generation import Model, RequestError
from fewstep.generation import Request as DrawRequest
from fewstep.generation.planning import Plan
from fewstep.models.text import words
from fewstep.serving.engine.jobs import Busy, Cancelled, Drawn, Job, Stopped
from fewstep.serving.engine.runtime import Runtime
from fewstep.serving.engine.service import Service
from fewstep.serving.http.bodies import from_validation
from fewstep.serving.http.drawing import Upload, encoded, planned, request_of
from fewstep.serving.http.errors import ApiError, busy, stopped
from fewstep.serving.http.openapi import ERRORS, FRAME, FRAMES
from fewstep.serving.http.schemas import EditFields, Whole
from fewstep.serving.http.security import PROTOCOL
from fewstep.serving.http.waiting import result_of

log = logging.getLogger("fewstep.serving")

AT_ONCE = 4
"""Frames of one connection on their way at a time; more wait in the network, which slows their sender down."""

MOST_HEAD = 65_536
"""Bytes of a frame's head."""

SMALL = 65_536
"""Bytes of raw pixels that are made ready on the event loop: a thread would take longer. Of files, a few bytes can
hold millions of pixels."""


class Part(BaseModel):
    """A picture of a frame: a file, or the bytes of its pixels."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["image", "mask", "control"]
    bytes: Whole = Field(ge=1)
    kind: Literal["file", "rgba"] = "file"
    width: Whole = Field(0, ge=0)
    height: Whole = Field(0, ge=0)


class Head(EditFields):
    """What a frame asks for: the fields of an edit, and its pictures."""

    seq: Whole = Field(ge=0, le=2**53)
    parts: list[Part] = Field(default_factory=list, max_length=3)


def packed(head: dict[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """A frame."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def unpacked(frame: bytes) -> tuple[dict[str, Any], memoryview]:
    """A frame's head, and the bytes of its pictures.

    Raises:
        ApiError: it is none.
    """
    if len(frame) < 4:
        raise ApiError(400, f"a frame must have at least 4 bytes, got {len(frame)}", None, "wrong_frame")
    (length,) = struct.unpack_from("<I", frame)
    if length > min(MOST_HEAD, len(frame) - 4):
        raise ApiError(400, f"a frame of {len(frame)} bytes cannot have a head of {length}", None, "wrong_frame")
    try:
        head = json.loads(frame[4 : 4 + length])
    except (ValueError, RecursionError):
        raise ApiError(400, "the head of a frame must be JSON", None, "wrong_frame") from None
    if not isinstance(head, dict):
        raise ApiError(400, "the head of a frame must be a JSON object", None, "wrong_frame")
    return head, memoryview(frame)[4 + length :]


@dataclass(frozen=True)
class _Order:
    """A frame that can be drawn."""

    head: Head
    wanted: DrawRequest
    plan: Plan
    arrived: float


def live_router(service: Service) -> APIRouter:
    """The routes, for one service."""
    router = APIRouter(prefix="/v1", responses=ERRORS)

    @router.get("/live")
    async def about() -> dict[str, Any]:
        """What can be asked for here."""
        return await asyncio.to_thread(described, service)

    @router.post("/live", response_class=Response, responses=FRAMES, openapi_extra=FRAME)
    async def one(request: Request) -> Response:
        """One frame, for who cannot have the WebSocket; its `session` says whose latest it is."""
        frame = b"".join([part async for part in request.stream()])
        client = request.state.client
        answer = await _answered(service, frame, client, None, time.perf_counter(), request)
        return Response(answer, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    @router.websocket("/live")
    async def many(socket: WebSocket) -> None:
        """Frames in, frames out."""
        asked = socket.scope.get("subprotocols") or []
        await socket.accept(PROTOCOL if PROTOCOL in asked else None)
        await _converse(service, socket)

    return router


def described(service: Service) -> dict[str, Any]:
    """What a model can be asked for, as JSON values."""
    model, settings = service.model, service.settings
    spec = model.spec
    low, high = spec.conditioning.guidance or (1.0, 1.0)
    captions = model.saved.captions
    known = frozenset() if captions is None else captions.known
    return {
        "model": model.name,
        "model_hash": model.hash,
        "native_size": list(model.native_size),
        "transparent": spec.pixel_format == "rgba_premultiplied",
        "prompt": bool(spec.conditioning.text_length),
        "control": spec.conditioning.control,
        "teacher": service.teacher and service.teacher.spec.name,
        "steps": {"default": spec.steps, "most": min(4, settings.max_steps)},
        "guidance": {
            "default": spec.guidance,
            "with_control": spec.usual_guidance(controlled=True),
            "low": low,
            "high": high,
        },
        "images": settings.max_images,
        "styles": [style for style in styles_of(spec.recipe) if known.issuperset(words(style))],
        "palette": {
            name: "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in colour))
            for name, colour in COLOURS.items()
            if name in known
        },
    }


async def _converse(service: Service, socket: WebSocket) -> None:
    """Answer a connection's frames until it ends; what it still has on its way then is stopped."""
    client, session = socket.state.client, f"live/{secrets.token_hex(8)}"
    slots, sending = asyncio.Semaphore(AT_ONCE), asyncio.Lock()
    tasks: set[asyncio.Task[None]] = set()

    async def answer(frame: bytes, arrived: float) -> None:
        try:
            reply = await _answered(service, frame, client, session, arrived)
            async with sending:
                await socket.send_bytes(reply)
        except (WebSocketDisconnect, RuntimeError) as error:  # it is gone: nobody waits for this one
            log.debug("live %s: %s", session, error)
        finally:
            slots.release()

    log.info("live connection opens session=%s", session)
    try:
        while True:
            await slots.acquire()
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame = message.get("bytes") or (message.get("text") or "").encode()
            task = asyncio.create_task(answer(frame, time.perf_counter()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        log.info("live connection closed session=%s", session)


async def _answered(
    service: Service, frame: bytes, client: str, session: str | None, arrived: float, request: Request | None = None
) -> bytes:
    """The answer to a frame, whatever comes of it; who asked with a `request` may go away meanwhile."""
    seq = -1
    try:
        fields, pixels = unpacked(frame)
        seq = fields.get("seq", -1)
        return await _drawn(service, fields, pixels, client, session, arrived, request)
    except ApiError as error:
        refused = error
    except RequestError as error:
        refused = ApiError(400, str(error), error.field)
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("a live frame failed")
        refused = ApiError(500, "something went wrong here; the log has more")
    wait = refused.headers.get("retry-after-ms")
    return packed({"seq": seq, **refused.body, "status": refused.status} | ({"retry_ms": int(wait)} if wait else {}))


async def _drawn(
    service: Service,
    fields: dict[str, Any],
    pixels: memoryview,
    client: str,
    session: str | None,
    arrived: float,
    request: Request | None,
) -> bytes:
    try:
        head = Head.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error.errors()) from None
    if session is None and head.session is not None:
        session = f"{client}/{head.session}"
    try:
        runtime = await _runtime(service, head.model)
        runtime.check_room(client, session)
        prepare = partial(_ordered, service, runtime.model, head, pixels, arrived)
        is_small = len(pixels) <= SMALL and all(part.kind == "rgba" for part in head.parts)
        order = prepare() if is_small else await asyncio.to_thread(prepare)
        finish = partial(_packed, service, order)
        job = runtime.submit(order.wanted, finish, client, session, None, arrived, order.plan)
        return await (_waited(runtime, job) if request is None else result_of(runtime, request, job))
    except Busy as error:
        raise busy(str(error), error.retry_after) from None
    except Stopped as error:
        raise stopped(error) from None


async def _runtime(service: Service, name: str | None) -> Runtime:
    """Where the model of this name draws: the served one, or its teacher.

    Raises:
        ApiError: 404: it is neither.
    """
    if name in (None, service.model.name, *service.settings.aliases):
        return service.runtime
    if service.teacher is not None and name == service.teacher.spec.name:
        return await asyncio.to_thread(service.teaching)
    raise ApiError(404, f"there is no model '{name}': this server has '{service.model.name}'", "model", "not_found")


async def _waited(runtime: Runtime, job: Job[bytes]) -> bytes:
    try:
        return await asyncio.wrap_future(job.future)
    except asyncio.CancelledError:
        runtime.stop(job, Cancelled("the client went away"))
        raise


def _ordered(service: Service, model: Model, head: Head, pixels: memoryview, arrived: float) -> _Order:
    request = request_of(head, service, _opened(service, head, pixels))
    return _Order(head, *planned(request, model), arrived)


def _opened(service: Service, head: Head, pixels: memoryview) -> Upload:
    """The pictures of a frame.

    Raises:
        ApiError: they are not what the head says.
    """
    found: dict[str, Image.Image] = {}
    for part in head.parts:
        if part.name in found:
            raise ApiError(400, f"parts must name '{part.name}' once", "parts", "wrong_frame")
        data, pixels = pixels[: part.bytes], pixels[part.bytes :]
        if len(data) < part.bytes:
            wrong = f"'{part.name}' must have {part.bytes} bytes, got {len(data)}"
            raise ApiError(400, wrong, "parts", "wrong_frame")
        raw = part.kind == "rgba"
        found[part.name] = _raw(service, part, data) if raw else service.pictures.open(bytes(data), part.name)
    if len(pixels):
        raise ApiError(400, f"parts leave {len(pixels)} bytes over", "parts", "wrong_frame")
    if "mask" in found and "image" not in found:
        raise ApiError(400, "mask needs an image", "mask")
    return Upload(**found)


def _raw(service: Service, part: Part, data: memoryview) -> Image.Image:
    """Straight RGBA, row by row: what a canvas gives."""
    if part.bytes != 4 * part.width * part.height:
        size = f"{part.width}x{part.height}"
        raise ApiError(400, f"'{part.name}' of {size} must have 4 bytes a pixel, got {part.bytes}", "parts")
    return service.pictures.raw(data, (part.width, part.height), part.name)


def _packed(service: Service, order: _Order, drawn: Drawn) -> bytes:
    """A job's pictures as a frame, made in the job's thread."""
    started = time.perf_counter()
    files = [encoded(image, order.head) for image in drawn.images]
    ended = time.perf_counter()
    first = drawn.images[0].record
    timings = {**drawn.timings, "encode_image": 1000 * (ended - started), "server": 1000 * (ended - order.arrived)}
    service.metrics.stage("encode_image", ended - started)
    drawn.check()
    head = {
        "seq": order.head.seq,
        "model": first.model,
        "steps": first.steps,
        "network_evaluations": first.network_evaluations,
        "unknown_words": list(first.unknown_words),
        "nearest_captions": [list(nearest) for nearest in first.nearest_captions],
        "timings": {stage: round(value, 3) for stage, value in timings.items()},
        "parts": [
            {
                "bytes": len(file),
                "id": image.record.id,
                "seed": image.record.seed,
                "recognised": look.name,
                "confidence": look.confidence,
            }
            for image, file, look in zip(drawn.images, files, drawn.seen, strict=True)
        ],
    }
    return packed(head, files)
