"""The request fields as pydantic types: parsed from JSON or form texts, checked by the field itself, and published as
the field's own JSON Schema."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from fewstep.editing.fields import Field, Picture
from fewstep.generation import RequestError

INVALID = "invalid_value"
"""The error type of a value that a field refuses; the message is the field's own."""


def pydantic_type(field: Field) -> Any:
    """The type of a field, without null. An image is a text here: a data URL or another URL."""
    if isinstance(field, Picture):
        return Annotated[str, WithJsonSchema(field.schema())]
    checked, number = AfterValidator(partial(_checked, field)), partial(_no_boolean, field)
    if field.type in (int, float):
        return Annotated[field.type, BeforeValidator(number), checked, WithJsonSchema(field.schema())]
    return Annotated[field.type, checked, WithJsonSchema(field.schema())]


def _no_boolean(field: Field, value: Any) -> Any:
    """Refuse booleans for numbers, which pydantic would convert to 1 and 0."""
    return _checked(field, value) if isinstance(value, bool) else value


def _checked(field: Field, value: Any) -> Any:
    try:
        field.check(value, field.public)
    except RequestError as error:
        raise PydanticCustomError(INVALID, "{reason}", {"reason": str(error)}) from None
    return value
