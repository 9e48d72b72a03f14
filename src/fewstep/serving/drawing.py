"""From a client's fields to a job, and from a job's images to an answer: what every surface shares."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fewstep import provenance
from fewstep.generation import Edit, GeneratedImage, Request, RequestError
from fewstep.generation.images import on_background
from fewstep.generation.request import parse_size
from fewstep.serving.errors import ApiError
from fewstep.serving.runtime import Drawn
from fewstep.serving.schemas import Asked, EditFields, Format, Generation, ImageInfo, ImagesAnswer, Usage
from fewstep.serving.settings import ServeSettings

MIME: dict[Format, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True)
class Upload:
    """Pictures that came with a request.

    Args:
        image: to go out from, or None.
        mask: what may change.
        control: a sketch to follow.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None
    control: Image.Image | None = None


def request_of(asked: Asked, settings: ServeSettings, upload: Upload) -> Request:
    """What to draw.

    Raises:
        RequestError: a field is out of range.
    """
    prompt = asked.prompt if isinstance(asked, (Generation, EditFields)) else ""
    if len(prompt) > settings.most_prompt:
        raise RequestError("prompt", f"prompt must have at most {settings.most_prompt} characters, got {len(prompt)}")
    if asked.n > settings.most_images:
        raise RequestError("n", f"n must be at most {settings.most_images}, got {asked.n}")
    if asked.steps is not None and asked.steps > settings.most_steps:
        raise RequestError("steps", f"steps must be at most {settings.most_steps}, got {asked.steps}")
    if asked.output_format == "jpeg" and asked.background == "transparent":
        raise RequestError("background", "a jpeg has no transparency: ask for png or webp, or another background")
    own: dict[str, Any] = {}
    if isinstance(asked, Generation):
        own = {"negative_prompt": asked.negative_prompt, "label": asked.label, "sampler": asked.sampler}
    if upload.image is not None:
        own["edit"] = Edit(upload.image, upload.mask, getattr(asked, "strength", None))
    return Request(
        prompt=prompt,
        seed=asked.seed,
        steps=asked.steps,
        images=asked.n,
        guidance=asked.guidance,
        size=None if asked.size in (None, "auto") else parse_size(asked.size or ""),
        background=_background(asked),
        control=upload.control,
        **own,
    )


def _background(asked: Asked) -> str | None:
    if asked.background in (None, "auto"):
        return "white" if asked.output_format == "jpeg" else None
    return "white" if asked.background == "opaque" else asked.background


def encoded(image: GeneratedImage, asked: Asked) -> bytes:
    """An image as a file, its record in it."""
    buffer = io.BytesIO()
    options = {} if asked.output_format == "png" else {"quality": max(1, asked.output_compression)}
    provenance.save(image, buffer, image.record, asked.output_format, **options)
    return buffer.getvalue()


def preview(picture: Image.Image, asked: Asked) -> bytes:
    """An intermediate picture as a file."""
    buffer = io.BytesIO()
    shown = on_background(picture, "white") if asked.output_format == "jpeg" else picture
    shown.save(buffer, asked.output_format)
    return buffer.getvalue()
