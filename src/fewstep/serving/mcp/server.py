"""Drawing as tools of the Model Context Protocol, by the official SDK: on stdio, and at /mcp over HTTP.

A tool answers with the image itself (small: at most `INLINE` pixels a side), a structured result that says what made
it, and a link to the image at full size. What the asking model can mend comes back as an error result that says how.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import math
import time
from collections.abc import Sequence
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp_types import CallToolResult, ImageContent, InputRequiredResult, ResourceLink, TextContent, ToolAnnotations
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

import fewstep
from fewstep.editing.fields import LEFT
from fewstep.generation import Edit, GeneratedImage, Request, RequestError
from fewstep.generation.request import Interpolation
from fewstep.generation.running import Progress
from fewstep.serving.engine.jobs import Busy, Cancelled, Drawn, Stopped
from fewstep.serving.engine.service import Service
from fewstep.serving.engine.store import Kept
from fewstep.serving.http import uploads
from fewstep.serving.http.bodies import from_validation
from fewstep.serving.http.drawing import check_limits, encoded_png, shown_in
from fewstep.serving.http.errors import ApiError
from fewstep.serving.http.schemas import EditName
from fewstep.serving.mcp.tools import DESCRIPTION, Prompt, Seed, Size, Steps

Share = Annotated[float, Field(ge=0, le=1)]
Beyond = Annotated[float, Field(ge=0, le=LEFT.maximum)]
log = logging.getLogger("fewstep.serving")
INLINE = 512
_IMAGES = "fewstep://images/"
DRAWS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


class Picture(BaseModel):
    """What a drawing tool answers beside the image."""

    image_id: str = Field(description="Give this to change_image to go on from the image.")
    uri: str
    prompt: str
    seed: int
    model: str
    size: str
    steps: int
    milliseconds: float
    unknown_words: list[str] = Field(description="Words that the model never saw: it cannot draw them.")
    nearest_captions: list[str] = Field(description="What it knows that lies nearest to the prompt.")
    recognised_as: str | None = Field(description="What a recogniser sees in the image.")
    confidence: float | None = Field(description="How sure the recogniser is, 0 to 1.")


class Models(BaseModel):
    """What can draw here."""

    models: list[dict[str, Any]]


class _Server(MCPServer[Any]):
    """Says what is wrong with arguments as the HTTP API does, in words that a language model can follow."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise ToolError(from_validation(error.__cause__.errors()).message) from None


def mcp_server(service: Service) -> MCPServer[Any]:
    """The tools of one service."""
    server = _Server(
        "fewstep",
        title="fewstep: images at once",
        version=fewstep.__version__,
        instructions=_instructions(service),
        log_level="WARNING",
    )

    @server.tool(annotations=DRAWS, title="Draw an image", description=DESCRIPTION)
    async def draw_image(
        prompt: Prompt, ctx: Context, seed: Seed = None, steps: Steps = None, size: Size = None
    ) -> Annotated[CallToolResult, Picture]:
        return await _draw(service, ctx, prompt, seed, steps, size)

    @server.tool(annotations=DRAWS, title="Draw what lies between")
    async def draw_between(
        prompt: Prompt,
        ctx: Context,
        to_prompt: Annotated[str | None, Field(description="What the other end shows; the same if left out.")] = None,
        to_seed: Annotated[Seed, Field(description="The other end's seed; the same if left out.")] = None,
        position: Annotated[Share, Field(description="0 is the first end, 1 the other.")] = 0.5,
        seed: Seed = None,
        steps: Steps = None,
        size: Size = None,
    ) -> Annotated[CallToolResult, Picture]:
        """Draw an image between two prompts, two seeds, or both: with one seed and several positions, a film."""
        way = Interpolation((position,), to_prompt, to_seed)
        return await _draw(service, ctx, prompt, seed, steps, size, way=way)

    @server.tool(annotations=DRAWS, title="Change an image")
    async def change_image(
        ctx: Context,
        image_id: Annotated[
            str | None, Field(description="Of an image drawn before, or its uri; or give image.")
        ] = None,
        image: Annotated[str | None, Field(description="Any picture or coloured sketch, as a data URL.")] = None,
        prompt: Annotated[str | None, Field(description="What it shall show; as before if left out.")] = None,
        strength: Annotated[
            float | None, Field(gt=0, le=1, description="How different it may become: 0.5, in a region 1.")
        ] = None,
        region: Annotated[
            list[Share] | None,
            Field(
                min_length=4,
                max_length=4,
                description="Left, top, right, bottom as shares of the image: only there it changes.",
            ),
        ] = None,
        margins: Annotated[
            list[Beyond] | None,
            Field(
                min_length=4,
                max_length=4,
                description="How far to draw beyond left, top, right, bottom, as shares of the image, which is kept.",
            ),
        ] = None,
        edit: Annotated[
            EditName | None,
            Field(description="Colours for an image in grey, a tiny image enlarged, or one without its noise."),
        ] = None,
        seed: Seed = None,
        steps: Steps = None,
    ) -> Annotated[CallToolResult, Picture]:
        """Draw another version of an image, all of it or a region, with the same or another prompt; or restore it,
        or draw beyond its borders."""
        if sum(choice is not None for choice in (edit, region, margins)) > 1:
            raise ToolError("edit, region and margins are changes of their own: give one of them")
        if margins is not None and strength is not None:
            raise ToolError("beyond the image nothing is there to start from: leave out strength, or margins")
        picture, shown = await _picture(service, image_id, image)
        mask = None if region is None else _mask(picture, region)
        try:
            if margins is not None:
                left, top, right, bottom = margins
                change = Edit.beyond(picture, left=left, top=top, right=right, bottom=bottom)
            else:
                change = Edit.named(edit, picture, mask, strength=strength)
        except RequestError as error:
            raise ToolError(str(error)) from error
        return await _draw(service, ctx, shown if prompt is None else prompt, seed, steps, None, change)

    @server.tool(annotations=READS, title="List models")
    async def list_models() -> Models:
        """What can draw here, and what it knows."""
        model = service.model
        captions = model.saved.captions
        known = [] if captions is None else captions.captions
        return Models(
            models=[
                {
                    "name": model.name,
                    "size": "{}x{}".format(*model.native_size),
                    "licence": model.spec.licence,
                    "captions": len(known),
                    "examples": known[:: max(1, len(known) // 20)][:20],
                }
            ]
        )

    @server.resource(f"{_IMAGES}{{image_id}}", mime_type="image/png", title="An image drawn before")
    async def image(image_id: str) -> bytes:
        """The image at full size."""
        kept = service.store.get(image_id)
        if kept is None:
            raise ResourceNotFoundError(f"there is no image '{image_id}', or no more: draw it again with draw_image")
        return kept.data if kept.mime == "image/png" else await asyncio.to_thread(_as_png, service, kept)

    return server


def _as_png(service: Service, kept: Kept) -> bytes:
    image = service.pictures.open(kept.data, "image_id")
    if not isinstance(image, GeneratedImage):
        raise TypeError(f"a kept {kept.mime} lost its record")
    return encoded_png(image)


def _instructions(service: Service) -> str:
    captions = service.model.saved.captions
    known = "" if captions is None else f" It knows {len(captions.captions)} things; list_models shows some."
    return (
        f"draw_image draws with the model '{service.model.name}' in milliseconds.{known} Use short, plain prompts. "
        "The answer says which words it does not know and what a recogniser sees: if that is not what was asked for, "
        "try another prompt or seed, or say so."
    )


async def _picture(service: Service, image_id: str | None, image: str | None) -> tuple[Image.Image, str]:
    """The picture to change, and what it is said to show."""
    if (image_id is None) == (image is None):
        raise ToolError("give either image_id, of an image drawn before, or image, a data URL")
    kept = None if image_id is None else service.store.get(image_id.removeprefix(_IMAGES))
    if image_id is not None and kept is None:
        raise ToolError(f"there is no image '{image_id}', or no more: draw it again with draw_image")
    try:
        source = kept.data if kept is not None else await uploads.named(image or "", "image", service.settings)
        opened = await asyncio.to_thread(service.pictures.open, source, "image")
    except ApiError as error:
        raise ToolError(error.message) from error
    return opened, shown_in(opened, service.model)


def _mask(picture: Image.Image, region: Sequence[float]) -> Image.Image:
    """White in the region, of which at least a pixel is left."""
    left, top, right, bottom = region
    if not (left < right and top < bottom):
        raise ToolError(f"region must be left, top, right, bottom with left < right and top < bottom, got {region}")
    mask = Image.new("L", picture.size, 0)
    box = (
        math.floor(left * picture.width),
        math.floor(top * picture.height),
        math.ceil(right * picture.width),
        math.ceil(bottom * picture.height),
    )
    mask.paste(255, box)
    return mask


async def _draw(
    service: Service,
    ctx: Context,
    prompt: str,
    seed: int | None,
    steps: int | None,
    size: str | None,
    edit: Edit | None = None,
    way: Interpolation | None = None,
) -> CallToolResult:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Progress | None] = asyncio.Queue()

    spans = service.traces.here()
    if service.settings.log_prompts:
        log.info("prompt %r by MCP", prompt)

    def finish(drawn: Drawn) -> CallToolResult:
        started = time.perf_counter()
        data = encoded_png(drawn.images[0])
        spent = time.perf_counter() - started
        drawn.check()  # nothing is kept for nobody
        service.metrics.stage("encode_image", spent)
        service.traces.stages(spans, {**drawn.timings, "encode_image": 1000 * spent})
        return _result(service, drawn, data)

    def seen(progress: Progress) -> None:
        loop.call_soon_threadsafe(told.put_nowait, progress)

    try:
        request = Request(
            prompt,
            seed=seed,
            steps=steps,
            size=size,  # type: ignore[arg-type]
            edit=edit,
            to_prompt=None if way is None else way.prompt,
            to_seed=None if way is None else way.seed,
            position=None if way is None else way.positions[0],
        )
        check_limits(request, service)
        job = await service.submit(request, finish, _client(ctx), seen=seen)
    except (RequestError, Stopped) as error:
        raise ToolError(str(error)) from error
    except Busy as error:
        raise ToolError(f"busy: {error}") from error
    job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(told.put_nowait, None))
    try:
        while (progress := await told.get()) is not None:
            done = progress.jump.index + 1
            await ctx.report_progress(done, progress.steps, f"step {done} of {progress.steps}")
        return await asyncio.wrap_future(job.future)
    except Stopped as error:
        raise ToolError(str(error)) from error
    finally:
        service.runtime.stop(job, Cancelled("the client cancelled"))


def _client(ctx: Context) -> str:
    """Whose turn it is in the queue: as for the other surfaces over HTTP, else the one that holds the pipe."""
    request = ctx.request_context.request
    return "stdio" if request is None else str(request.state.client)


def _result(service: Service, drawn: Drawn, data: bytes) -> CallToolResult:
    (image,) = drawn.images
    record = image.record
    handle = service.store.put(data, "image/png")
    (seen,) = drawn.seen
    uri = f"{_IMAGES}{handle}"
    picture = Picture(
        image_id=handle,
        uri=uri,
        prompt=record.prompt,
        seed=record.seed,
        model=record.model,
        size=f"{image.width}x{image.height}",
        steps=record.steps,
        milliseconds=round(sum(drawn.timings.values()), 2),
        unknown_words=list(record.unknown_words),
        nearest_captions=[caption for caption, _ in record.nearest_captions],
        recognised_as=seen.name,
        confidence=seen.confidence,
    )
    content = [
        ImageContent(type="image", data=base64.b64encode(_inline(image, data)).decode(), mime_type="image/png"),
        TextContent(type="text", text=picture.model_dump_json()),
        ResourceLink(type="resource_link", name=handle, uri=uri, mime_type="image/png", size=len(data)),
    ]
    return CallToolResult(content=content, structured_content=picture.model_dump())


def _inline(image: Image.Image, data: bytes) -> bytes:
    """The image small enough for a chat."""
    if max(image.size) <= INLINE:
        return data
    small = Image.Image.copy(image)
    small.thumbnail((INLINE, INLINE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()
