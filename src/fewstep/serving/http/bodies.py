"""Bodies of image requests: their fields, and their images, not decoded yet."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from fewstep.serving.engine.inputs import ImageFile, ImageId, ImageSource, ImageUrl, SourceImages
from fewstep.serving.engine.validation import invalid
from fewstep.serving.http.api_errors import ApiError
from fewstep.serving.http.schemas import IMAGES, Bodies, EditFields, ImageFields, Source
from fewstep.serving.http.whole import BOM

MAX_VALUES = 10_000
"""Most values in a JSON body: many small ones take much time and memory to parse. An image is one value."""
_FILES = {name: (name, f"{name}[]") for name in ("image", "mask", "control")}
"""The names of a form's files."""
T = TypeVar("T", bound=ImageFields)
B = TypeVar("B", bound=BaseModel)


async def generation(bodies: Bodies, request: Request) -> tuple[ImageFields, SourceImages]:
    """The body of `POST /v1/images/generations`."""
    fields = await read_json(request, bodies.generation)
    return _without_images(fields), SourceImages(control=_control(fields))


async def edit(bodies: Bodies, request: Request) -> tuple[ImageFields, SourceImages]:
    """The body of an edit or a variation: a form or JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return await _form(request, bodies.edit_form)
    fields = await read_json(request, bodies.edit_json)
    fields.ignored = tuple(f"images[{place}]" for place in range(1, len(fields.images)))
    image = _source(fields.images[0], "images")
    mask = None if fields.mask is None else _source(fields.mask, "mask")
    return _without_images(fields), SourceImages(image, mask, _control(fields))


async def read_json(request: Request, kind: type[B]) -> B:
    """A JSON body of this kind.

    Raises:
        ApiError: it has too many values.
        InputError: it is not JSON, or a field is wrong.
    """
    body = b"".join([part async for part in request.stream()])  # `body()` would keep it as long as the request
    body = body.removeprefix(BOM)
    if sum(map(body.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise ApiError(400, f"the body must have at most {MAX_VALUES} values", None, "too_large")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors()) from None


async def _form(request: Request, kind: type[EditFields]) -> tuple[ImageFields, SourceImages]:
    _check_charset(request.headers.get("content-type", ""))
    form = await _parsed(request)
    try:
        texts, files = _texts(form, kind), _files(form, kind)
        ignored = tuple(f"image[{place}]" for place in range(1, len(files["image"])))
        image, mask, control = [await _file(name, files[name]) for name in _FILES]
    finally:
        await form.close()
    if image is None:
        raise ApiError(400, "image must be a file", "image")
    if control is not None and "control" in texts:
        raise ApiError(400, "control must be given once, got a file and a text", "control")
    try:
        fields = kind.model_validate(texts)
    except ValidationError as error:
        raise invalid(error.errors()) from None
    fields.ignored = ignored
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


class _Parser(MultiPartParser):
    """A parser that knows whether it has seen the form's last boundary."""

    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def _parsed(request: Request) -> FormData:
    """The parts of a form, all of them."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, "the body must be a multipart/form-data form with a file named image, or JSON", "image")
    parser = _Parser(request.headers, request.stream(), max_files=IMAGES + 2, max_fields=100)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, f"the form cannot be read: {error.message}") from None
    if not parser.is_complete:
        await form.close()
        raise ApiError(400, "the form ends before its last boundary", None, "incomplete_form")
    return form


def _texts(form: FormData, kind: type[EditFields]) -> dict[str, str]:
    """The texts of a form by name, without empty ones."""
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str) or not value:
            continue
        if name in texts and name in kind.model_fields:
            raise ApiError(400, f"{name} must be given once", name)
        if name.removesuffix("[]") in ("image", "mask"):
            raise ApiError(400, f"{name} must be a file, got text", name)
        texts[name] = value
    return texts


def _files(form: FormData, kind: type[EditFields]) -> dict[str, list[UploadFile]]:
    """The files of a form by what they are for, without empty fields."""
    files: dict[str, list[UploadFile]] = {name: [] for name in _FILES}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile) or (not value.filename and not value.size):
            continue
        meant = next((known for known, names in _FILES.items() if name in names), None)
        if meant is None and name in kind.model_fields:
            raise ApiError(400, f"{name} must be text, got a file", name)
        if meant is None:
            raise ApiError(400, f"there is no file field {name[:60]!a} here, only image, mask and control", name[:60])
        files[meant].append(value)
    return files


async def _file(name: str, files: Sequence[UploadFile]) -> ImageFile | None:
    """The only file of this name, or the first image; None if there is none."""
    if len(files) > 1 and name != "image":
        raise ApiError(400, f"{name} must be one file, got {len(files)}", name)
    return ImageFile(name, await files[0].read()) if files else None


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
