"""Bodies of requests for images: their fields, and the pictures that come with them, not decoded yet."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile

from fewstep.serving.engine.service import Service
from fewstep.serving.http import uploads
from fewstep.serving.http.drawing import Upload
from fewstep.serving.http.errors import ApiError
from fewstep.serving.http.schemas import EditBody, EditFields, Generation, ImageFields, Source

MOST_VALUES = 10_000
"""Of a JSON body. Many small values take long to read and much memory; a picture is one."""
_FILES = {"image": ("image", "image[]"), "mask": ("mask",), "control": ("control",)}
"""The names of a form's files."""
T = TypeVar("T", bound=ImageFields)


@dataclass(frozen=True)
class Sent:
    """The pictures of a request as they came: files, or data URLs.

    Args:
        image, mask, control: as in `Upload`.
        image_field: the field that the image came in, for complaints.
    """

    image: bytes | str | None = None
    mask: bytes | str | None = None
    control: bytes | str | None = None
    image_field: str = "image"

    @property
    def any(self) -> bool:
        """Whether there is a picture."""
        return any(source is not None for source in (self.image, self.mask, self.control))

    def opened(self, pictures: uploads.Pictures) -> Upload:
        """Decoded.

        Raises:
            ApiError: as for `Pictures.open`.
        """

        def each(source: bytes | str | None, param: str) -> Any:
            return None if source is None else pictures.open(source, param)

        return Upload(each(self.image, self.image_field), each(self.mask, "mask"), each(self.control, "control"))


async def generation(service: Service, request: Request) -> tuple[Generation, Sent]:
    """The body of `POST /v1/images/generations`."""
    asked = await _json(request, Generation)
    return _bare(asked), Sent(control=await _control(service, asked))


async def edit(service: Service, request: Request) -> tuple[EditFields, Sent]:
    """The body of an edit or a variation: a form or JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return await _form(service, request)
    asked = await _json(request, EditBody)
    image = await _named(service, asked.images[0], "images")
    mask = None if asked.mask is None else await _named(service, asked.mask, "mask")
    return _bare(asked), Sent(image, mask, await _control(service, asked), "images")


async def _json(request: Request, kind: type[T]) -> T:
    body = b"".join([part async for part in request.stream()])  # `body()` would keep it as long as the request lives
    if sum(map(body.count, (b"[", b"{", b","))) > MOST_VALUES:
        raise ApiError(400, f"the body must have at most {MOST_VALUES} values", None, "too_large")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error.errors()) from None


async def _form(service: Service, request: Request) -> tuple[EditFields, Sent]:
    _check_charset(request.headers.get("content-type", ""))
    async with request.form(max_files=17, max_fields=100) as form:
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in EditFields.model_fields and name not in _FILES:
                raise ApiError(400, f"{name} must be text, got a file", name)
        image, mask = await _file(form, "image"), await _file(form, "mask")
        control = None if "control" in texts else await _file(form, "control")
    if image is None:
        raise ApiError(400, "image must be a file", "image")
    try:
        asked = EditFields.model_validate(texts)
    except ValidationError as error:
        raise from_validation(error.errors()) from None
    return _bare(asked), Sent(image, mask, control or await _control(service, asked))


def _check_charset(content_type: str) -> None:
    """A form's texts are decoded as its sender says; some codecs take minutes for a megabyte."""
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").decode("latin-1")
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = charset
    if name != "utf-8":
        raise ApiError(400, f"a form must be in utf-8, got charset {charset[:80]!a}")


async def _file(form: FormData, name: str) -> bytes | None:
    """The one file of a form by this name; None if there is none."""
    values = [value for key in _FILES[name] for value in form.getlist(key)]
    if len(values) > 1:
        raise ApiError(400, f"{name} must be one file, got {len(values)}", name)
    if not values:
        return None
    if not isinstance(values[0], UploadFile):
        raise ApiError(400, f"{name} must be a file, got text", name)
    return await values[0].read()


async def _control(service: Service, asked: ImageFields) -> bytes | str | None:
    return None if asked.control is None else await uploads.named(asked.control, "control", service.settings)


async def _named(service: Service, source: Source, param: str) -> bytes | str:
    """The picture that a JSON body names: an image of an earlier answer by its id, or a URL."""
    if source.image_url is not None:
        return await uploads.named(source.image_url, param, service.settings)
    kept = service.store.get(source.file_id or "")
    if kept is None:
        raise ApiError(400, f"{param}: there is no image by that file_id, or no more", param, "not_found")
    return kept.data


def _bare(asked: T) -> T:
    """The fields without the pictures, which are large and have a place of their own."""
    return asked.model_copy(update={name: None for name in ("images", "mask", "control") if hasattr(asked, name)})


def from_validation(errors: Any) -> ApiError:
    """The first of pydantic's complaints as an API error."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    got = first.get("input")
    shown = "" if not place or isinstance(got, (dict, list)) else f", got {_shown(got)}"
    param = place[0] if place else None
    return ApiError(400, f"{'.'.join(place) or 'the body'}: {first['msg']}{shown}", param, first["type"])


def _shown(value: Any) -> str:
    """A value as its sender wrote it."""
    return repr(value[:80]) if isinstance(value, str) else json.dumps(value, default=str)[:80]
