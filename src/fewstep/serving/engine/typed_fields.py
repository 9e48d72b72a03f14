"""The table's fields as types of pydantic: read from JSON or from the texts of a form, checked by the field itself,
and published as the field's own JSON Schema."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from fewstep.editing.fields import Field, Picture
from fewstep.generation import RequestError

INVALID = "invalid_value"
"""The code of a value that a field refuses; the message is the field's, whole."""


def pydantic_type(field: Field) -> Any:
    """The type of a field that is not null. An image is a text here: a data URL, or another address of one."""
    if isinstance(field, Picture):
        return Annotated[str, WithJsonSchema(field.schema())]
    checked, number = AfterValidator(partial(_checked, field)), partial(_no_boolean, field)
    if field.type in (int, float):
        return Annotated[field.type, BeforeValidator(number), checked, WithJsonSchema(field.schema())]
    return Annotated[field.type, checked, WithJsonSchema(field.schema())]


def _no_boolean(field: Field, value: Any) -> Any:
    """The value, for numbers: pydantic takes true for 1, the field does not."""
    return _checked(field, value) if isinstance(value, bool) else value


def _checked(field: Field, value: Any) -> Any:
    try:
        field.check(value, field.public)
    except RequestError as error:
        raise PydanticCustomError(INVALID, "{reason}", {"reason": str(error)}) from None
    return value
