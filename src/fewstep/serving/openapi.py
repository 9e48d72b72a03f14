"""What /openapi.json says of the Images API where the code does not show it: bodies, events, files, errors."""

from __future__ import annotations

from typing import Any

from fewstep.serving.drawing import MIME
from fewstep.serving.schemas import EditFields, ErrorBody, Generation

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "A field is wrong; `param` names it."},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong."},
    403: {"model": ErrorBody, "description": "The server has another name, or a page from elsewhere asks."},
    404: {"model": ErrorBody, "description": "There is no such model or image."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {"model": ErrorBody, "description": "The queue is full; `retry-after-ms` says when to come back."},
    499: {"model": ErrorBody, "description": "A newer request of the same session took this one's place."},
    503: {"model": ErrorBody, "description": "The server is closing."},
    "default": {"model": ErrorBody, "description": "Any other error."},
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The images; with `stream`, events.",
        "content": {"text/event-stream": {}},
    }
}
FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The image.",
        "content": {mime: {"schema": {"type": "string", "format": "binary"}} for mime in MIME.values()},
    }
}
JSON: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": Generation.model_json_schema()}},
    }
}
_EDIT: dict[str, Any] = EditFields.model_json_schema()["properties"]
_SOURCE: dict[str, Any] = {
    "type": "object",
    "description": "Either a URL, or the id of an image of an earlier answer.",
    "properties": {"image_url": {"type": "string"}, "file_id": {"type": "string"}},
    "minProperties": 1,
    "maxProperties": 1,
}
FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "items": _SOURCE, "minItems": 1, "maxItems": 1},
                        "mask": {"anyOf": [_SOURCE, {"type": "null"}]},
                        **_EDIT,
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "mask": {"type": "string", "format": "binary"},
                        **_EDIT,
                    },
                }
            },
        },
    }
}
