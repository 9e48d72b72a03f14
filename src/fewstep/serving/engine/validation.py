"""Pydantic's validation errors, of client messages and of settings, in the form of all other errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fewstep.serving.engine.errors import InputError
from fewstep.serving.engine.typed_fields import INVALID

_SAID: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "json_invalid": "must be valid JSON: {error}",
    "value_error": "{error}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "must be text"),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be an object"),
    "path_type": "must be a path",
}
"""Messages by pydantic's error type, with placeholders for its context; other errors keep pydantic's message."""


def complaint(error: Mapping[str, Any]) -> str:
    """The error message for a value, to follow its name: what is wrong, and the value.

    Args:
        error: an entry of a pydantic `ValidationError`'s `errors()`.
    """
    kind, given = error["type"], error.get("input")
    bounds = {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in error.get("ctx", {}).items()
    }
    said = _SAID[kind].format(**bounds) if kind in _SAID else str(error["msg"])
    if isinstance(given, (dict, list)) or kind in ("missing", "extra_forbidden") or ", got " in said:
        return said
    return f"{said}, got {_shown(given)}"


def invalid(errors: Sequence[Any]) -> InputError:
    """The first of pydantic's errors."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == INVALID:
        return InputError(path[0], first["msg"], INVALID)
    if not path:
        return InputError("", f"the body {complaint({**first, 'input': {}})}", first["type"])
    return InputError(path[0], f"{'.'.join(path)} {complaint(first)}", first["type"])


def _shown(value: Any) -> str:
    """A value as the client wrote it."""
    return repr(value[:80]) if isinstance(value, str) else json.dumps(value, default=str)[:80]
