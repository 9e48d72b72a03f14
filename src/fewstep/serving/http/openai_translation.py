"""Translation of OpenAI's fields to a request for the desk, and of the desk's answer to OpenAI's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from fewstep.editing.edits import EDIT_CHOICES
from fewstep.generation import Edit, Model, Request
from fewstep.models.text import table
from fewstep.pictures import Record
from fewstep.pictures.generated import prompt_of
from fewstep.serving.engine.desk import Answer, AnswerOptions, PartialImage
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.inputs import DecodedImages
from fewstep.serving.http.schemas import ImageFields, ImageInfo, ImagesAnswer, Usage


def request_of(
    fields: ImageFields,
    images: DecodedImages,
    model: Model,
    prompt_from_image: bool = False,
    most_steps: int | None = None,
) -> Request:
    """What to draw.

    Args:
        fields: fields of the client's message.
        images: images that came with it.
        model: the model that will draw.
        prompt_from_image: whether a missing prompt is taken from the image's record.
        most_steps: the most steps taken for partial images where no steps are given; None for no bound.

    Raises:
        RequestError: the fields contradict each other.
    """
    values = {**fields.values(), "control": images.control}
    if prompt_from_image and "prompt" not in fields.model_fields_set and images.image is not None:
        values["prompt"] = prompt_of(images.image) if model.spec.conditioning.text_length else ""
    if fields.stream and fields.partial_images and values["steps"] is None:
        enough = max(model.spec.steps, fields.partial_images + 1)
        values["steps"] = enough if most_steps is None else min(enough, most_steps)
    if fields.output_format == "jpeg" and values["background"] in (None, "auto"):
        values["background"] = "white"
    return Request.from_public(values, edit=_edit(values, images))


def _edit(values: dict[str, Any], images: DecodedImages) -> Edit | None:
    if images.image is None:
        return None
    return Edit.named(values["edit"], images.image, images.mask, **{name: values[name] for name in EDIT_CHOICES})


def output_of(fields: ImageFields) -> AnswerOptions:
    """How the client wants to be answered."""
    partial_images = fields.partial_images if fields.stream else 0
    return AnswerOptions(Encoding(fields.output_format, fields.output_compression), partial_images)


def partial_event(event: PartialImage, fields: ImageFields) -> dict[str, Any]:
    """The fields of an event with an intermediate picture."""
    return {
        "b64_json": base64.b64encode(event.file).decode(),
        "created_at": int(time.time()),
        "size": f"{event.picture.width}x{event.picture.height}",
        "quality": quality_of(event.steps, fields),
        "background": _transparency(event.picture.mode),
        "output_format": fields.output_format,
    }


def quality_of(steps: int, fields: ImageFields) -> str:
    """The quality in an answer, which must be one of OpenAI's: the one asked for, or by the number of steps."""
    if fields.quality in QUALITIES:
        return fields.quality
    return QUALITIES[0 if steps == 1 else 1 if steps < 4 else 2]


QUALITIES = ("low", "medium", "high")


def _transparency(mode: str) -> str:
    return "transparent" if mode == "RGBA" else "opaque"


def answer_of(answer: Answer, fields: ImageFields, url_of: Callable[[str], str]) -> ImagesAnswer:
    """OpenAI's answer; `url_of` gives the URL of an image by its id."""
    model, record = answer.model, answer.images[0].record
    native = record.native_size or record.size
    as_url = fields.as_url
    data = [
        ImageInfo(
            b64_json=None if as_url else base64.b64encode(image.file).decode(),
            url=url_of(image.id) if as_url else None,
            id=image.id,
            seed=image.record.seed,
            unknown_words=list(image.record.unknown_words),
            nearest_captions=list(image.record.nearest_captions),
            unread_prompt=image.record.unread_prompt,
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
        quality=quality_of(record.steps, fields),
        usage=_usage(model, record, len(data)),
        model=model.name,
        model_hash=model.hash,
        native_size=f"{native[0]}x{native[1]}",
        resampled=record.size != native,
        steps=record.steps,
        network_evaluations=record.network_evaluations,
        timings={stage: round(value, 3) for stage, value in answer.timings.items()},
        ignored=list(fields.ignored),
    )


def _usage(model: Model, record: Record, images: int) -> Usage:
    """Token counts of this model: tokenizer tokens for the prompt, and positions of the data for images."""
    words = len(table().tokens(record.prompt)) if model.spec.conditioning.text_length else 0
    shape = model.spec.codec.shape(model.spec.pixels)
    drawn = images * shape[-1] * shape[-2]
    return Usage(
        input_tokens=words,
        output_tokens=drawn,
        total_tokens=words + drawn,
        input_tokens_details={"text_tokens": words, "image_tokens": 0},
    )
