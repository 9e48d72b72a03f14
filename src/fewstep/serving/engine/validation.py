"""What pydantic says of a client's message, in the words of all other errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fewstep.serving.engine.errors import InputError
from fewstep.serving.engine.typed_fields import INVALID


def invalid(errors: Sequence[Any]) -> InputError:
    """The first of pydantic's complaints."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == INVALID:
        return InputError(path[0], first["msg"], INVALID)
    got = first.get("input")
    shown = "" if not path or isinstance(got, (dict, list)) else f", got {_shown(got)}"
    return InputError(
        path[0] if path else "", f"{'.'.join(path) or 'the body'}: {first['msg']}{shown}", first["type"]
    )


def _shown(value: Any) -> str:
    """A value as its sender wrote it."""
    return repr(value[:80]) if isinstance(value, str) else json.dumps(value, default=str)[:80]
