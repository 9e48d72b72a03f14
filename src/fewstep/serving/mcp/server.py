"""Drawing as tools of the Model Context Protocol, with the official SDK: on stdio, and at /mcp over HTTP.

A tool answers with the image itself (at most `INLINE` pixels a side), a structured result that describes how it was
made, and a link to the image at full size. Mistakes that the calling model can correct are returned as error results
that say how.
"""

from __future__ import annotations

import asyncio
import base64
import io
import math
from collections.abc import Mapping, Sequence
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
from fewstep.serving.engine.desk import Answer, AnswerOptions, Desk, RequestBuilder, StepDone
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.errors import Busy, NotFound, Stopped
from fewstep.serving.engine.inputs import URI, DecodedImages, ImageId, ImageUrl, SourceImages
from fewstep.serving.engine.store import StoredImage
from fewstep.serving.engine.validation import invalid
from fewstep.serving.mcp.tools import DESCRIPTION, with_arguments

Share = Annotated[float, Field(ge=0, le=1)]
Region = Annotated[
    Annotated[list[Share], Field(min_length=4, max_length=4)] | None,
    Field(description="Left, top, right, bottom as shares of the image: only there it changes."),
]
Margins = Annotated[
    Annotated[list[Annotated[float, Field(ge=LEFT.minimum, le=LEFT.maximum)]], Field(min_length=4, max_length=4)]
    | None,
    Field(description="How far to draw beyond left, top, right, bottom, as shares of the image, which is kept."),
]
INLINE = 512
_OUTPUT = AnswerOptions(Encoding("png"), steps=True)
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
    unread_prompt: str = Field(description="The end of the prompt that was too long to be read; empty if none.")
    recognised_as: str | None = Field(description="What a recogniser takes the image for.")
    confidence: float | None = Field(description="How sure the recogniser is, 0 to 1.")


class ModelDescriptions(BaseModel):
    """The models of this server."""

    models: list[dict[str, Any]]


class _Server(MCPServer[Any]):
    """Reports wrong arguments as the HTTP API does, in words that a language model can act on.

    Args:
        desk: the desk that records them.
        about: arguments of `MCPServer`.
    """

    def __init__(self, desk: Desk, **about: Any) -> None:
        super().__init__(**about)
        self._desk = desk

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            wrong = invalid(error.__cause__.errors())
            if context is not None:
                self._desk.refuse(_caller(context))
            raise ToolError(str(wrong)) from None


def mcp_server(desk: Desk) -> MCPServer[Any]:
    """The tools of one desk."""
    server = _Server(
        desk,
        name="fewstep",
        title="fewstep: images at once",
        version=fewstep.__version__,
        instructions=_instructions(desk),
        log_level="WARNING",
    )

    @server.tool(annotations=DRAWS, title="Draw an image", description=DESCRIPTION)
    @with_arguments(desk.limits.fields("mcp", "draw"), required="prompt")
    async def draw_image(ctx: Context, **arguments: Any) -> Annotated[CallToolResult, DrawnImage]:
        return await _draw(desk, ctx, partial(_request, arguments), SourceImages())

    @server.tool(annotations=DRAWS, title="Draw between two images")
    @with_arguments(desk.limits.fields("mcp", "draw", "interpolate"), required="prompt")
    async def draw_between(ctx: Context, **arguments: Any) -> Annotated[CallToolResult, DrawnImage]:
        """Draw an image between two prompts, two seeds, or both: with one seed and several positions, a film.
        Without a position it is the middle."""
        if arguments["position"] is None:
            arguments["position"] = 0.5
        return await _draw(desk, ctx, partial(_request, arguments), SourceImages())

    @server.tool(annotations=DRAWS, title="Change an image")
    @with_arguments(desk.limits.fields("mcp", "draw", "edit"))
    async def change_image(
        ctx: Context,
        image_id: Annotated[
            str | None, Field(description="The id or the uri of an image drawn before; or give image.")
        ] = None,
        image: Annotated[str | None, Field(description="Any picture or coloured sketch, as a data URL.")] = None,
        region: Region = None,
        margins: Margins = None,
        **arguments: Any,
    ) -> Annotated[CallToolResult, DrawnImage]:
        """Draw another version of an image, all of it or a region, with the same or another prompt; or restore it,
        or draw beyond its borders."""
        if sum(choice is not None for choice in (arguments["edit"], region, margins)) > 1:
            raise ToolError("edit, region and margins are different changes: give only one of them")
        if margins is not None and arguments["strength"] is not None:
            raise ToolError("beyond the image there is nothing to start from: leave out strength, or margins")
        if (image_id is None) == (image is None):
            raise ToolError("give either image_id, of an image drawn before, or image, a data URL")
        source = ImageUrl("image", image or "") if image_id is None else ImageId("image_id", image_id)

        def build(images: DecodedImages, model: Model) -> Request:
            assert images.image is not None
            shown = prompt_of(images.image) if model.spec.conditioning.text_length else ""
            prompt = shown if arguments["prompt"] is None else arguments["prompt"]
            edit = _edit(images.image, arguments["edit"], arguments["strength"], region, margins)
            return Request.from_public({**arguments, "prompt": prompt}, edit=edit)

        return await _draw(desk, ctx, build, SourceImages(source))

    @server.tool(annotations=READS, title="List models")
    async def list_models() -> ModelDescriptions:
        """List the models that can draw here, and what they know."""
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


def _request(arguments: Mapping[str, Any], images: DecodedImages, model: Model) -> Request:
    """A request without images."""
    return Request.from_public(arguments)


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
    """A mask that is white in the region, at least one pixel."""
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
    """The caller: as on the other surfaces over HTTP, else the program at the other end of the pipe."""
    request = ctx.request_context.request
    if request is None:
        return Caller("mcp", "stdio", request_id=str(ctx.request_id))
    state = request.state
    return Caller("mcp", state.client, state.owner, None, state.id, state.arrived, state.quota)


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
        unread_prompt=record.unread_prompt,
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
    """The image, made small enough for a chat."""
    if max(image.size) <= INLINE:
        return data
    small = Image.Image.copy(image)
    small.thumbnail((INLINE, INLINE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()
