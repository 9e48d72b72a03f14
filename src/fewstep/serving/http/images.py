"""OpenAI's fields as a request for the desk, and the desk's answer as OpenAI's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from fewstep.generation import Edit, Model, Request, RequestError
from fewstep.models.text import table
from fewstep.pictures import Record
from fewstep.pictures.generated import prompt_of
from fewstep.serving.engine.desk import Answer, Output, PartialImage
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.limits import Limits, check_count
from fewstep.serving.engine.sources import DecodedImages
from fewstep.serving.http.schemas import EditFields, Generation, ImageFields, ImageInfo, ImagesAnswer, Usage


def request_of(
    fields: ImageFields, limits: Limits, images: DecodedImages, model: Model, prompt_from_image: bool = False
) -> Request:
    """What to draw.

    Args:
        fields: of the client's message.
        limits: the server's.
        images: that came with it.
        model: that will draw.
        prompt_from_image: a prompt that is left out is the one in the image's record.

    Raises:
        RequestError: a field is out of range.
    """
    check_count("n", fields.n, limits.max_images)  # before the request calls it by its own name
    check_count("steps", fields.steps, limits.max_steps)
    prompt = fields.prompt if isinstance(fields, (Generation, EditFields)) else ""
    if prompt_from_image and "prompt" not in fields.model_fields_set and images.image is not None:
        prompt = prompt_of(images.image) if model.spec.conditioning.text_length else ""
    return Request(
        prompt=prompt,
        seed=fields.seed,
        steps=fields.steps,
        images=fields.n,
        guidance=fields.guidance,
        size=fields.size,  # type: ignore[arg-type]
        background=_background(fields),
        control=images.control,
        control_strength=fields.control_strength,
        control_frame=fields.control_frame,
        edit=_edit(fields, images),
        negative_prompt=fields.negative_prompt,
        label=fields.label,
        sampler=fields.sampler,
        **_interpolation(fields),
    )


def _edit(fields: ImageFields, images: DecodedImages) -> Edit | None:
    if not isinstance(fields, EditFields) or images.image is None:
        return None
    choices = {name: getattr(fields, name) for name in ("strength", "fit", "noise")}
    return Edit.named(fields.edit, images.image, images.mask, **choices)


def _interpolation(fields: ImageFields) -> dict[str, Any]:
    if not isinstance(fields, Generation):
        return {}
    if fields.n == 1 and fields.position is None and (fields.to_prompt, fields.to_seed) != (None, None):
        raise RequestError("n", "n of an interpolation must be at least 2, or give a position")
    return {name: getattr(fields, name) for name in ("to_prompt", "to_seed", "position")}


def _background(fields: ImageFields) -> str | None:
    if fields.background in (None, "auto"):
        return "white" if fields.output_format == "jpeg" else None
    return "white" if fields.background == "opaque" else fields.background


def output_of(fields: ImageFields) -> Output:
    """What the client wants to be sent."""
    partial_images = fields.partial_images if fields.stream else 0
    return Output(Encoding(fields.output_format, fields.output_compression), partial_images)


def partial_event(event: PartialImage, fields: ImageFields) -> dict[str, Any]:
    """The fields of an event with an intermediate picture."""
    return {
        "b64_json": base64.b64encode(event.file).decode(),
        "created_at": int(time.time()),
        "size": f"{event.picture.width}x{event.picture.height}",
        "quality": "auto",
        "background": _transparency(event.picture.mode),
        "output_format": fields.output_format,
    }


def _transparency(mode: str) -> str:
    return "transparent" if mode == "RGBA" else "opaque"


def answer_of(answer: Answer, fields: ImageFields, url_of: Callable[[str], str]) -> ImagesAnswer:
    """OpenAI's answer; `url_of` gives the address of an image by its id."""
    model, record = answer.model, answer.images[0].record
    native = record.native_size or record.size
    as_url = fields.response_format == "url" and not fields.stream
    data = [
        ImageInfo(
            b64_json=None if as_url else base64.b64encode(image.file).decode(),
            url=url_of(image.id) if as_url else None,
            id=image.id,
            seed=image.record.seed,
            unknown_words=list(image.record.unknown_words),
            nearest_captions=list(image.record.nearest_captions),
            recognised=image.recognition.name,
            confidence=image.recognition.confidence,
        )
        for image in answer.images
    ]
    return ImagesAnswer(
        created=int(time.time()),
        data=data,
        background=_transparency(answer.images[0].picture.mode),
        output_format=fields.output_format,
        size=f"{record.size[0]}x{record.size[1]}",
        usage=_usage(model, record, len(data)),
        model=model.name,
        model_hash=model.hash,
        native_size=f"{native[0]}x{native[1]}",
        resampled=record.size != native,
        steps=record.steps,
        network_evaluations=record.network_evaluations,
        timings={stage: round(value, 3) for stage, value in answer.timings.items()},
    )


def _usage(model: Model, record: Record, images: int) -> Usage:
    """Tokens as this model counts them: of a prompt its table's, of an image the positions of its data."""
    words = len(table().tokens(record.prompt)) if model.spec.conditioning.text_length else 0
    shape = model.spec.codec.shape(model.spec.pixels)
    drawn = images * shape[-1] * shape[-2]
    return Usage(
        input_tokens=words,
        output_tokens=drawn,
        total_tokens=words + drawn,
        input_tokens_details={"text_tokens": words, "image_tokens": 0},
    )
