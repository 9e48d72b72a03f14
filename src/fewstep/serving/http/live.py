"""The live wire: a stream of sketches in and a stream of pictures out, over a WebSocket or plain POSTs.

Both carry the same binary frames, so a client that cannot use the WebSocket only loses speed. A frame is the length
of a JSON head (4 bytes, little-endian), the head, and then the images that it names, one after another.

Only the latest frame of a connection counts, as for `session` in the Images API: a newer frame replaces a waiting one
and stops a running one at its next step. Each frame is answered exactly once, by its `seq`: with images, or with the
reason why there are none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewstep.models.text import words
from fewstep.serving.engine.accounting import Caller
from fewstep.serving.engine.desk import Answer, Desk
from fewstep.serving.engine.errors import InputError
from fewstep.serving.engine.inputs import ImageFile, ImagePixels, ImageSource, ImageUrl, SourceImages
from fewstep.serving.engine.validation import invalid
from fewstep.serving.http.api_errors import as_api_error
from fewstep.serving.http.openai_translation import output_of, request_of
from fewstep.serving.http.openapi import ERRORS, FRAME, FRAMES
from fewstep.serving.http.schemas import ImageFields, Whole, body_of
from fewstep.serving.http.security import PROTOCOL
from fewstep.serving.http.waiting import until_disconnected

log = logging.getLogger("fewstep.serving")

MAX_CONCURRENT_FRAMES = 4
"""Frames processed at a time per connection; further ones wait in the network, which slows the sender down."""

MAX_HEAD_BYTES = 65_536
"""The largest head of a frame, in bytes."""


MAX_SEQ = 2**53
"""The largest integer up to which JavaScript numbers are exact."""


class Part(BaseModel):
    """An image of a frame: a file, or the bytes of its pixels."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["image", "mask", "control"]
    bytes: Whole = Field(ge=1)
    kind: Literal["file", "rgba"] = "file"
    width: Whole = Field(0, ge=0)
    height: Whole = Field(0, ge=0)


class Head(ImageFields):
    """The head of a frame: the fields of an edit, and the images of the frame."""

    seq: Whole = Field(ge=0, le=MAX_SEQ)
    parts: list[Part] = Field(default_factory=list, max_length=3)


def packed(head: dict[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """Build a frame."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def unpacked(frame: bytes) -> tuple[dict[str, Any], memoryview]:
    """A frame's head, and the bytes of its images.

    Raises:
        InputError: it is not a frame.
    """
    if len(frame) < 4:
        raise _wrong_frame(f"a frame must have at least 4 bytes, got {len(frame)}")
    (length,) = struct.unpack_from("<I", frame)
    if length > min(MAX_HEAD_BYTES, len(frame) - 4):
        raise _wrong_frame(f"a frame of {len(frame)} bytes cannot have a head of {length}")
    try:
        head = json.loads(frame[4 : 4 + length])
    except (ValueError, RecursionError):
        raise _wrong_frame("the head of a frame must be JSON") from None
    if not isinstance(head, dict):
        raise _wrong_frame("the head of a frame must be a JSON object")
    return head, memoryview(frame)[4 + length :]


def _wrong_frame(message: str, field: str = "") -> InputError:
    return InputError(field, message, "wrong_frame")


def live_router(desk: Desk) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1", responses=ERRORS)
    kind = body_of(Head, desk.limits.fields("live", "draw", "edit"))

    @router.get("/live")
    async def about() -> dict[str, Any]:
        """Describe what clients can ask for."""
        return await asyncio.to_thread(described, desk)

    @router.post("/live", response_class=Response, responses=FRAMES, openapi_extra=FRAME)
    async def one(request: Request) -> Response:
        """Answer one frame, for clients without WebSockets; only the latest frame of its `session` counts."""
        frame = b"".join([part async for part in request.stream()])
        state = request.state
        caller = Caller("live", state.client, state.owner, None, state.id, quota=state.quota)
        answer = await _answered(desk, kind, frame, caller, request)
        return Response(answer, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    @router.websocket("/live")
    async def many(socket: WebSocket) -> None:
        """Answer frames until the connection ends."""
        protocols = socket.scope.get("subprotocols") or []
        await socket.accept(PROTOCOL if PROTOCOL in protocols else None)
        await _converse(desk, kind, socket)

    return router


def described(desk: Desk) -> dict[str, Any]:
    """What clients can ask of the served model, as JSON values."""
    model, limits = desk.host.model, desk.limits
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
        "teacher": desk.host.teacher and desk.host.teacher.spec.name,
        "steps": {"default": spec.steps, "most": min(4, limits.max_steps)},
        "guidance": {
            "default": spec.guidance,
            "with_control": spec.usual_guidance(controlled=True),
            "low": low,
            "high": high,
        },
        "images": limits.max_images,
        "styles": [style for style in spec.vocabulary.styles if known.issuperset(words(style))],
        "palette": {name: colour for name, colour in spec.vocabulary.palette.items() if name in known},
    }


async def _converse(desk: Desk, kind: type[Head], socket: WebSocket) -> None:
    """Answer a connection's frames until it ends; frames that are still running then are stopped."""
    state = socket.state
    connection = Caller("live", state.client, state.owner, f"live/{state.id}", state.id, quota=state.quota)
    slots, sending = asyncio.Semaphore(MAX_CONCURRENT_FRAMES), asyncio.Lock()
    tasks: set[asyncio.Task[None]] = set()

    async def answer(frame: bytes, caller: Caller) -> None:
        try:
            reply = await _answered(desk, kind, frame, caller)
            async with sending:
                await socket.send_bytes(reply)
        except (WebSocketDisconnect, RuntimeError) as error:  # the client is gone: nobody waits for this one
            log.debug("live connection=%s: %s", state.id, error)
        finally:
            slots.release()

    log.info("live connection=%s opened", state.id)
    try:
        while True:
            await slots.acquire()
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame = message.get("bytes") or (message.get("text") or "").encode()
            task = asyncio.create_task(answer(frame, replace(connection, arrived=time.perf_counter())))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        log.info("live connection=%s closed", state.id)


async def _answered(
    desk: Desk, kind: type[Head], frame: bytes, caller: Caller, request: Request | None = None
) -> bytes:
    """The answer to a frame, images or error; with a `request`, the client may go away in the meantime."""
    seq = -1
    try:
        fields, data = unpacked(frame)
        seq = fields.get("seq", -1)
        head = _head(kind, fields)
        sources = _sources(head, data)
    except InputError as error:
        desk.refuse(caller)
        return _refusal(seq, error)
    try:
        drawn = _drawn(desk, head, sources, caller)
        return await (drawn if request is None else until_disconnected(request, drawn))
    except Exception as error:  # the desk has logged it
        return _refusal(seq, error)


def _refusal(seq: Any, error: Exception) -> bytes:
    refused = as_api_error(error)
    head = {"seq": seq, **refused.body, "status": refused.status}
    if "retry-after-ms" in refused.headers:
        head["retry_ms"] = int(refused.headers["retry-after-ms"])
    return packed(head)


def _head(kind: type[Head], fields: dict[str, Any]) -> Head:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise invalid(error.errors()) from None


def _sources(head: Head, data: memoryview) -> SourceImages:
    """The images of a frame.

    Raises:
        InputError: they do not match the head.
    """
    found: dict[str, ImageSource] = {}
    for part in head.parts:
        if part.name in found:
            raise _wrong_frame(f"parts must name '{part.name}' once", "parts")
        own, data = data[: part.bytes], data[part.bytes :]
        if len(own) < part.bytes:
            raise _wrong_frame(f"'{part.name}' must have {part.bytes} bytes, got {len(own)}", "parts")
        found[part.name] = _pixels(part, own) if part.kind == "rgba" else ImageFile(part.name, bytes(own))
    if len(data):
        raise _wrong_frame(f"parts leave {len(data)} bytes over", "parts")
    if "mask" in found and "image" not in found:
        raise _wrong_frame("mask needs an image", "mask")
    control = head.values()["control"]
    if control is not None:
        found.setdefault("control", ImageUrl("control", control))
    return SourceImages(**found)


def _pixels(part: Part, data: memoryview) -> ImagePixels:
    """Straight RGBA, row by row, as a canvas gives it."""
    if part.bytes != 4 * part.width * part.height:
        size = f"{part.width}x{part.height}"
        raise _wrong_frame(f"'{part.name}' of {size} must have 4 bytes per pixel, got {part.bytes}", "parts")
    return ImagePixels(part.name, data, (part.width, part.height))


async def _drawn(desk: Desk, head: Head, sources: SourceImages, caller: Caller) -> bytes:
    if caller.session is None:
        caller = replace(caller, session=head.session)
    request = partial(request_of, head)
    render = partial(_packed, head.seq, caller.arrived)
    async with await desk.draw(request, sources, caller, output_of(head), render, head.model) as drawing:
        return await drawing.answer()


def _packed(seq: int, arrived: float, answer: Answer) -> bytes:
    """An answer as a frame."""
    record = answer.images[0].record
    timings = {**answer.timings, "server": 1000 * (time.perf_counter() - arrived)}
    head = {
        "seq": seq,
        "model": record.model,
        "steps": record.steps,
        "network_evaluations": record.network_evaluations,
        "unknown_words": list(record.unknown_words),
        "nearest_captions": [list(nearest) for nearest in record.nearest_captions],
        "unread_prompt": record.unread_prompt,
        "timings": {stage: round(value, 3) for stage, value in timings.items()},
        "parts": [
            {
                "bytes": len(image.file),
                "id": image.id,
                "seed": image.record.seed,
                "recognised": image.recognition.name,
                "confidence": image.recognition.confidence,
            }
            for image in answer.images
        ],
    }
    return packed(head, [image.file for image in answer.images])
