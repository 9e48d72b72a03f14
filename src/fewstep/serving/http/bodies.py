"""Bodies of image requests: their fields, and their images, not decoded yet."""

from __future__ import annotations

import codecs
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile

from fewstep.serving.engine.inputs import ImageFile, ImageId, ImageSource, ImageUrl, SourceImages
from fewstep.serving.engine.validation import invalid
from fewstep.serving.http.api_errors import ApiError
from fewstep.serving.http.schemas import Bodies, EditFields, ImageFields, Source

MAX_VALUES = 10_000
"""Most values in a JSON body: many small ones take much time and memory to parse. An image is one value."""
_FILES = {"image": ("image", "image[]"), "mask": ("mask",), "control": ("control",)}
"""The names of a form's files."""
T = TypeVar("T", bound=ImageFields)


async def generation(bodies: Bodies, request: Request) -> tuple[ImageFields, SourceImages]:
    """The body of `POST /v1/images/generations`."""
    fields = await _json(request, bodies.generation)
    return _without_images(fields), SourceImages(control=_control(fields))


async def edit(bodies: Bodies, request: Request) -> tuple[ImageFields, SourceImages]:
    """The body of an edit or a variation: a form or JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return await _form(request, bodies.edit_form)
    fields = await _json(request, bodies.edit_json)
    image = _source(fields.images[0], "images")
    mask = None if fields.mask is None else _source(fields.mask, "mask")
    return _without_images(fields), SourceImages(image, mask, _control(fields))


async def _json(request: Request, kind: type[T]) -> T:
    body = b"".join([part async for part in request.stream()])  # `body()` would keep it as long as the request
    if sum(map(body.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise ApiError(400, f"the body must have at most {MAX_VALUES} values", None, "too_large")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors()) from None


async def _form(request: Request, kind: type[EditFields]) -> tuple[ImageFields, SourceImages]:
    _check_charset(request.headers.get("content-type", ""))
    async with request.form(max_files=17, max_fields=100) as form:
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in kind.model_fields and name not in _FILES:
                raise ApiError(400, f"{name} must be text, got a file", name)
        image, mask = await _file(form, "image"), await _file(form, "mask")
        control = None if "control" in texts else await _file(form, "control")
    if image is None:
        raise ApiError(400, "image must be a file", "image")
    try:
        fields = kind.model_validate(texts)
    except ValidationError as error:
        raise invalid(error.errors()) from None
    return _without_images(fields), SourceImages(image, mask, control or _control(fields))


def _check_charset(content_type: str) -> None:
    """Allow only UTF-8: form texts are decoded with the sender's charset, and some codecs take minutes for 1 MB."""
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").decode("latin-1")
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = charset
    if name != "utf-8":
        raise ApiError(400, f"a form must be in utf-8, got charset {charset[:80]!a}")


async def _file(form: FormData, name: str) -> ImageFile | None:
    """The only file of a form with this name; None if there is none."""
    values = [value for key in _FILES[name] for value in form.getlist(key)]
    if len(values) > 1:
        raise ApiError(400, f"{name} must be one file, got {len(values)}", name)
    if not values:
        return None
    if not isinstance(values[0], UploadFile):
        raise ApiError(400, f"{name} must be a file, got text", name)
    return ImageFile(name, await values[0].read())


def _control(fields: ImageFields) -> ImageUrl | None:
    url = fields.values()["control"]
    return None if url is None else ImageUrl("control", url)


def _source(source: Source, field: str) -> ImageSource:
    """The image that a JSON body names: one drawn before by its id, or a URL."""
    if source.image_url is not None:
        return ImageUrl(field, source.image_url)
    return ImageId(field, source.file_id or "")


def _without_images(fields: T) -> T:
    """The fields without the images, which are large and kept separately."""
    return fields.model_copy(update={name: None for name in ("images", "mask", "control") if hasattr(fields, name)})
