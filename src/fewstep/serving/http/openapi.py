"""The parts of /openapi.json that are not derived from the code: bodies, events, files, errors."""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel

from fewstep.serving.engine.encoding import MIME
from fewstep.serving.http.schemas import ErrorBody

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "A field is wrong; `param` names it."},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong."},
    403: {
        "model": ErrorBody,
        "description": "The Host or the Origin of the request is unknown.",
    },
    404: {"model": ErrorBody, "description": "There is no such model, or no such image of this client."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {
        "model": ErrorBody,
        "description": "The queue, or the room for uploads, is full; `retry-after-ms` says when to try again.",
    },
    499: {"model": ErrorBody, "description": "A newer request of the same session took this one's place."},
    503: {"model": ErrorBody, "description": "The server is closing."},
    "default": {"model": ErrorBody, "description": "Any other error."},
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The images; with `stream`, server-sent events.",
        "content": {"text/event-stream": {}},
    }
}
FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The image.",
        "content": {mime: {"schema": {"type": "string", "format": "binary"}} for mime in MIME.values()},
    }
}


_FRAME: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
FRAME: dict[str, Any] = {"requestBody": {"required": True, "content": _FRAME}}
FRAMES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A frame with the images, or with the reason why there are none.", "content": _FRAME}
}


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """The request body of an operation that takes JSON."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": published(kind)}}}}


def edit_body(form: type[BaseModel], json: type[BaseModel]) -> dict[str, Any]:
    """The request body of an operation that takes a form with files, or JSON."""
    schema = published(form)
    schema["properties"] |= {"image": _FILE, "mask": _FILE}
    schema["required"] = ["image"]
    content = {"application/json": {"schema": published(json)}, "multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


_FILE = {"type": "string", "format": "binary"}


def published(kind: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema, self-contained."""
    schema = kind.model_json_schema()
    return cast(dict[str, Any], _whole(schema, schema.pop("$defs", {})))


def _whole(value: Any, parts: dict[str, Any]) -> Any:
    """A schema with its references resolved."""
    if isinstance(value, list):
        return [_whole(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _whole(parts[value["$ref"].rpartition("/")[2]], parts)
    return {name: _whole(each, parts) for name, each in value.items()}
