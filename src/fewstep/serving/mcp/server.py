"""Drawing as tools of the Model Context Protocol, by the official SDK: on stdio, and at /mcp over HTTP.

A tool answers with the image itself (small: at most `INLINE` pixels a side), a structured result that says what made
it, and a link to the image at full size. Mistakes that the calling model can mend come back as error results that
say how.
"""

from __future__ import annotations

import asyncio
import base64
import io
import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp_types import CallToolResult, ImageContent, InputRequiredResult, ResourceLink, TextContent, ToolAnnotations
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

import fewstep
from fewstep.editing.fields import LEFT
from fewstep.generation import Edit, GeneratedImage, Model, Request, RequestError
from fewstep.pictures.generated import prompt_of
from fewstep.serving.engine.accounting import Caller
from fewstep.serving.engine.desk import Answer, Desk, Output, RequestBuilder, StepDone
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.errors import Busy, NotFound, Stopped
from fewstep.serving.engine.sources import URI, DecodedImages, ImageId, ImageUrl, SourceImages
from fewstep.serving.engine.store import StoredImage
from fewstep.serving.engine.validation import invalid
from fewstep.serving.mcp.tools import DESCRIPTION, EditName, Prompt, Seed, Size, Steps

Share = Annotated[float, Field(ge=0, le=1)]
Beyond = Annotated[float, Field(ge=0, le=LEFT.maximum)]
INLINE = 512
_OUTPUT = Output(Encoding("png"), steps=True)
DRAWS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


class DrawnImage(BaseModel):
    """The structured result of a drawing tool."""

    image_id: str = Field(description="Give this to change_image to go on from the image.")
    uri: str
    prompt: str
    seed: int
    model: str
    size: str
    steps: int
    milliseconds: float
    unknown_words: list[str] = Field(description="Words that the model has never seen and cannot draw.")
    nearest_captions: list[str] = Field(description="The captions it knows that are nearest to the prompt.")
    recognised_as: str | None = Field(description="What a recogniser takes the image for.")
    confidence: float | None = Field(description="How sure the recogniser is, 0 to 1.")


class ModelDescriptions(BaseModel):
    """The models of this server."""

    models: list[dict[str, Any]]


class _Server(MCPServer[Any]):
    """Reports wrong arguments as the HTTP API does, in words that a language model can follow."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise ToolError(str(invalid(error.__cause__.errors()))) from None


def mcp_server(desk: Desk) -> MCPServer[Any]:
    """The tools of one desk."""
    server = _Server(
        "fewstep",
        title="fewstep: images at once",
        version=fewstep.__version__,
        instructions=_instructions(desk),
        log_level="WARNING",
    )

    @server.tool(annotations=DRAWS, title="Draw an image", description=DESCRIPTION)
    async def draw_image(
        prompt: Prompt, ctx: Context, seed: Seed = None, steps: Steps = None, size: Size = None
    ) -> Annotated[CallToolResult, DrawnImage]:
        build = partial(_request, prompt=prompt, seed=seed, steps=steps, size=size)
        return await _draw(desk, ctx, build, SourceImages())

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
    ) -> Annotated[CallToolResult, DrawnImage]:
        """Draw an image between two prompts, two seeds, or both: with one seed and several positions, a film."""
        build = partial(
            _request,
            prompt=prompt,
            seed=seed,
            steps=steps,
            size=size,
            to_prompt=to_prompt,
            to_seed=to_seed,
            position=position,
        )
        return await _draw(desk, ctx, build, SourceImages())

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
    ) -> Annotated[CallToolResult, DrawnImage]:
        """Draw another version of an image, all of it or a region, with the same or another prompt; or restore it,
        or draw beyond its borders."""
        if sum(choice is not None for choice in (edit, region, margins)) > 1:
            raise ToolError("edit, region and margins are changes of their own: give one of them")
        if margins is not None and strength is not None:
            raise ToolError("beyond the image nothing is there to start from: leave out strength, or margins")
        if (image_id is None) == (image is None):
            raise ToolError("give either image_id, of an image drawn before, or image, a data URL")
        source = ImageUrl("image", image or "") if image_id is None else ImageId("image_id", image_id)

        def build(images: DecodedImages, model: Model) -> Request:
            assert images.image is not None
            change = _edit(images.image, edit, strength, region, margins)
            shown = prompt_of(images.image) if model.spec.conditioning.text_length else ""
            return Request(shown if prompt is None else prompt, seed=seed, steps=steps, edit=change)

        return await _draw(desk, ctx, build, SourceImages(source))

    @server.tool(annotations=READS, title="List models")
    async def list_models() -> ModelDescriptions:
        """What can draw here, and what it knows."""
        model = desk.host.model
        captions = model.saved.captions
        known = [] if captions is None else captions.captions
        return ModelDescriptions(
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

    @server.resource(f"{URI}{{image_id}}", mime_type="image/png", title="An image drawn before")
    async def image(image_id: str, ctx: Context) -> bytes:
        """The image at full size."""
        try:
            found = desk.loader.find(image_id, _caller(ctx).owner, "image_id")
        except NotFound as error:
            raise ResourceNotFoundError(str(error)) from None
        return found.data if found.mime == "image/png" else await asyncio.to_thread(_as_png, desk, found)

    return server


def _as_png(desk: Desk, stored: StoredImage) -> bytes:
    image = desk.loader.decoder.open(stored.data, "image_id")
    if not isinstance(image, GeneratedImage):
        raise TypeError(f"a stored {stored.mime} lost its record")
    return _OUTPUT.encoding.encoded(image)


def _instructions(desk: Desk) -> str:
    model = desk.host.model
    captions = model.saved.captions
    known = "" if captions is None else f" It knows {len(captions.captions)} things; list_models shows some."
    return (
        f"draw_image draws with the model '{model.name}' in milliseconds.{known} Use short, plain prompts. "
        "The answer says which words it does not know and what a recogniser sees: if that is not what was asked for, "
        "try another prompt or seed, or say so."
    )


def _request(images: DecodedImages, model: Model, **fields: Any) -> Request:
    """A request without images."""
    return Request(**fields)


def _edit(
    picture: Image.Image,
    edit: str | None,
    strength: float | None,
    region: Sequence[float] | None,
    margins: Sequence[float] | None,
) -> Edit:
    if margins is not None:
        left, top, right, bottom = margins
        return Edit.beyond(picture, left=left, top=top, right=right, bottom=bottom)
    mask = None if region is None else _mask(picture, region)
    return Edit.named(edit, picture, mask, strength=strength)


def _mask(picture: Image.Image, region: Sequence[float]) -> Image.Image:
    """White in the region, of which at least a pixel is left."""
    left, top, right, bottom = region
    if not (left < right and top < bottom):
        wrong = f"region must be left, top, right, bottom with left < right and top < bottom, got {region}"
        raise RequestError("region", wrong)
    mask = Image.new("L", picture.size, 0)
    box = (
        math.floor(left * picture.width),
        math.floor(top * picture.height),
        math.ceil(right * picture.width),
        math.ceil(bottom * picture.height),
    )
    mask.paste(255, box)
    return mask


async def _draw(desk: Desk, ctx: Context, build: RequestBuilder, sources: SourceImages) -> CallToolResult:
    try:
        async with await desk.draw(build, sources, _caller(ctx), _OUTPUT, _result) as drawing:
            async for event in drawing.events():
                if isinstance(event, StepDone):
                    await ctx.report_progress(event.step, event.steps, f"step {event.step} of {event.steps}")
            return await drawing.answer()
    except (RequestError, Stopped) as error:
        raise ToolError(str(error)) from error
    except Busy as error:
        raise ToolError(f"busy: {error}") from error


def _caller(ctx: Context) -> Caller:
    """As on the other surfaces over HTTP, else the program that holds the pipe."""
    request = ctx.request_context.request
    if request is None:
        return Caller("mcp", "stdio", request_id=str(ctx.request_id))
    state = request.state
    return Caller("mcp", state.client, state.owner, None, state.id, state.arrived)


def _result(answer: Answer) -> CallToolResult:
    (image,) = answer.images
    record, uri = image.record, f"{URI}{image.id}"
    drawn = DrawnImage(
        image_id=image.id,
        uri=uri,
        prompt=record.prompt,
        seed=record.seed,
        model=record.model,
        size=f"{image.picture.width}x{image.picture.height}",
        steps=record.steps,
        milliseconds=round(sum(answer.timings.values()), 2),
        unknown_words=list(record.unknown_words),
        nearest_captions=[caption for caption, _ in record.nearest_captions],
        recognised_as=image.recognition.name,
        confidence=image.recognition.confidence,
    )
    inline = base64.b64encode(_inline(image.picture, image.file)).decode()
    content = [
        ImageContent(type="image", data=inline, mime_type="image/png"),
        TextContent(type="text", text=drawn.model_dump_json()),
        ResourceLink(type="resource_link", name=image.id, uri=uri, mime_type="image/png", size=len(image.file)),
    ]
    return CallToolResult(content=content, structured_content=drawn.model_dump())


def _inline(image: Image.Image, data: bytes) -> bytes:
    """The image small enough for a chat."""
    if max(image.size) <= INLINE:
        return data
    small = Image.Image.copy(image)
    small.thumbnail((INLINE, INLINE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()
