"""From a client's fields to a job, and from a job's images to an answer: what every surface shares."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from fewstep import pictures
from fewstep.generation import Edit, GeneratedImage, Model, Request, RequestError
from fewstep.generation.planning import Plan, corrections
from fewstep.models.text import table
from fewstep.pictures import Record
from fewstep.pictures.generated import prompt_of
from fewstep.serving.engine.jobs import Drawn
from fewstep.serving.http.schemas import EditFields, Format, Generation, ImageFields, ImageInfo, ImagesAnswer, Usage

if TYPE_CHECKING:
    from fewstep.serving.engine.service import Service

_PNG: dict[str, Any] = {"compress_level": 1}  # a quarter of the usual 6's time for a fifth more bytes, at 512 × 512
_SIDES: dict[Format, int] = {"webp": 16_383, "jpeg": 65_500}
"""The most pixels a side that a format has; png has no such bound."""
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


def request_of(asked: ImageFields, service: Service, upload: Upload, again: bool = False) -> Request:
    """What to draw.

    Args:
        asked: the fields.
        service: whose limits hold.
        upload: the pictures.
        again: where the prompt is left out, it is what the image's record says.

    Raises:
        RequestError: a field is out of range.
    """
    settings = service.settings
    prompt = asked.prompt if isinstance(asked, (Generation, EditFields)) else ""
    if again and "prompt" not in asked.model_fields_set and upload.image is not None:
        prompt = shown_in(upload.image, service.model)
    _check_at_most("n", asked.n, settings.max_images)  # before the request calls it by its own name
    _check_at_most("steps", asked.steps, settings.max_steps)
    if asked.output_format == "jpeg" and asked.background == "transparent":
        raise RequestError("background", "a jpeg has no transparency: ask for png or webp, or another background")
    edit, way = None, {}
    if isinstance(asked, EditFields) and upload.image is not None:
        choices = {name: getattr(asked, name) for name in ("strength", "fit", "noise")}
        edit = Edit.named(asked.edit, upload.image, upload.mask, **choices)
    if isinstance(asked, Generation):
        way = {name: getattr(asked, name) for name in ("to_prompt", "to_seed", "position")}
        if asked.n == 1 and asked.position is None and (asked.to_prompt, asked.to_seed) != (None, None):
            raise RequestError("n", "n of an interpolation must be at least 2, or give a position")
    request = Request(
        prompt=prompt,
        seed=asked.seed,
        steps=asked.steps,
        images=asked.n,
        guidance=asked.guidance,
        size=asked.size,  # type: ignore[arg-type]
        background=_background(asked),
        control=upload.control,
        control_strength=asked.control_strength,
        control_frame=asked.control_frame,
        edit=edit,
        negative_prompt=asked.negative_prompt,
        label=asked.label,
        sampler=asked.sampler,
        **way,
    )
    check_limits(request, service)
    side, most = max(request.size or (edit and edit.own_size) or (0,)), _SIDES.get(asked.output_format, 0)
    if 0 < most < side:
        wrong = f"a {asked.output_format} has at most {most} pixels a side, got {side}: ask for png or another size"
        raise RequestError("output_format", wrong)
    return request


def shown_in(picture: Image.Image, model: Model) -> str:
    """What a picture's record says that it shows, for a model that takes a prompt; else nothing."""
    return prompt_of(picture) if model.spec.conditioning.text_length else ""


def planned(request: Request, model: Model) -> tuple[Request, Plan]:
    """A request with its plan, and without its pictures: the plan holds what is needed of them.

    Raises:
        RequestError: the model cannot serve it.
    """
    plan = model.plan_pictures(request)
    if request.edit is None and request.control is None:
        return request, plan
    return replace(request, edit=None, control=None, control_strength=None), plan


def check_limits(request: Request, service: Service) -> None:
    """Raise RequestError for a request that is more work than this server does for one."""
    settings = service.settings
    for name in ("prompt", "to_prompt"):
        long = len(getattr(request, name) or "")
        if long > settings.max_prompt:
            raise RequestError(name, f"{name} must have at most {settings.max_prompt} characters, got {long}")
    _check_at_most("steps", request.steps, settings.max_steps)
    steps, fit = request.steps or 1, corrections(service.model.spec, request)
    if steps * (1 + 2 * fit) > settings.max_steps:
        most = f"steps · (1 + 2 · fit) at most {settings.max_steps}"
        raise RequestError("fit", f"fit must leave {most}, got {fit} with {steps} steps")
    width, height = request.size or (request.edit and request.edit.own_size) or (0, 0)
    if width * height * request.images > settings.max_pixels:
        raise RequestError(
            "size",
            f"all images of a request must have at most {settings.max_pixels} pixels together, "
            f"got {request.images} of {width}x{height}",
        )


def _check_at_most(field: str, value: int | None, most: int) -> None:
    if value is not None and value > most:
        raise RequestError(field, f"{field} must be between 1 and {most}, got {value}")


def _background(asked: ImageFields) -> str | None:
    if asked.background in (None, "auto"):
        return "white" if asked.output_format == "jpeg" else None
    return "white" if asked.background == "opaque" else asked.background


def encoded(image: GeneratedImage, asked: ImageFields) -> bytes:
    """An image as a file, its record in it."""
    return pictures.encode(image, asked.output_format, image.record, **_options(asked))


def encoded_png(image: GeneratedImage) -> bytes:
    """An image as PNG, its record in it."""
    return pictures.encode(image, "png", image.record, **_PNG)


def _options(asked: ImageFields) -> dict[str, Any]:
    """For Pillow's encoder. A webp without a quality loses nothing."""
    if asked.output_format == "png":
        return _PNG
    if asked.output_format == "webp" and asked.output_compression == 100:
        return {}
    return {"quality": max(1, asked.output_compression)}


def partial_image(picture: Image.Image, asked: ImageFields) -> dict[str, Any]:
    """What an event tells of an intermediate picture."""
    file = pictures.encode(picture, asked.output_format, **_options(asked))
    return {
        "b64_json": base64.b64encode(file).decode(),
        "created_at": int(time.time()),
        "size": f"{picture.width}x{picture.height}",
        "quality": "auto",
        "background": _background_of(picture),
        "output_format": asked.output_format,
    }


def _background_of(picture: Image.Image) -> str:
    return "transparent" if picture.mode == "RGBA" else "opaque"


def answer_of(service: Service, asked: ImageFields, drawn: Drawn, base: str) -> ImagesAnswer:
    """What the client gets of a job; `base` is where it reaches this server."""
    started = time.perf_counter()
    files = [encoded(image, asked) for image in drawn.images]
    encoding = 1000 * (time.perf_counter() - started)
    timings = {**drawn.timings, "encode_image": encoding}
    drawn.check()  # nothing is kept for nobody
    service.metrics.stage("encode_image", encoding / 1000)
    model, first = service.model, drawn.images[0].record
    native = first.native_size or first.size
    data = []
    for image, file, look in zip(drawn.images, files, drawn.seen, strict=True):
        record = image.record
        handle = service.store.put(file, MIME[asked.output_format])
        as_url = asked.response_format == "url" and not asked.stream
        data.append(
            ImageInfo(
                b64_json=None if as_url else base64.b64encode(file).decode(),
                url=f"{base}/v1/images/files/{handle}" if as_url else None,
                id=handle,
                seed=record.seed,
                unknown_words=list(record.unknown_words),
                nearest_captions=[(caption, similarity) for caption, similarity in record.nearest_captions],
                recognised=look.name,
                confidence=look.confidence,
            )
        )
    return ImagesAnswer(
        created=int(time.time()),
        data=data,
        background=_background_of(drawn.images[0]),
        output_format=asked.output_format,
        size=f"{first.size[0]}x{first.size[1]}",
        usage=usage_of(service, first, len(files)),
        model=model.name,
        model_hash=model.hash,
        native_size=f"{native[0]}x{native[1]}",
        resampled=first.size != native,
        steps=first.steps,
        network_evaluations=first.network_evaluations,
        timings={stage: round(value, 3) for stage, value in timings.items()},
    )


def usage_of(service: Service, record: Record, images: int) -> Usage:
    """Tokens as this model counts them: of the prompt what its table makes of it, of an image its positions."""
    spec = service.model.spec
    words = len(table().tokens(record.prompt)) if spec.conditioning.text_length else 0
    shape = spec.conditioning.codec.shape(spec.pixels)
    drawn = images * shape[-1] * shape[-2]
    return Usage(
        input_tokens=words,
        output_tokens=drawn,
        total_tokens=words + drawn,
        input_tokens_details={"text_tokens": words, "image_tokens": 0},
    )
