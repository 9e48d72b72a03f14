"""The table of fields, asked: a value of each that is not its default, those at its bounds, and those just outside."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from fewstep.editing.fields import Choice, Field, Flag, Integer, Number, Picture, Size, Text
from fewstep.generation import Model, Request, RequestError

OTHER: dict[str, Any] = {
    "prompt": "cat",
    "negative_prompt": "dog",
    "seed": 5,
    "steps": 2,
    "images": 2,
    "sampler": "consistency",
    "guidance": 1.5,
    "gamma": 0.25,
    "size": "40x24",
    "background": "#ffcc00",
    "label": 3,
    "control_strength": 0.5,
    "control_frame": False,
    "to_prompt": "dog",
    "to_seed": 6,
    "position": 0.25,
    "strength": 0.75,
    "fit": 2,
    "edit": "colorize",
    "noise": 0.125,
}
"""A value of each field that is not its default, as the surfaces are given it."""

NEEDS: dict[str, dict[str, Any]] = {
    "to_prompt": {"n": 2},
    "to_seed": {"n": 2},
    "position": {"to_seed": 6},
    "noise": {"edit": "denoise"},
    "fit": {"edit": "colorize"},
}
"""What a field means nothing without."""


def arrived(request: Request, field: Field) -> Any:
    """What a request says of a field, in the form of `OTHER`."""
    if field.name == "edit":
        return request.edit and request.edit.name
    value = getattr(request if hasattr(request, field.name) else request.edit, field.name)
    return "{}x{}".format(*value) if isinstance(field, Size) else value


class Seen(RequestError):
    """Instead of a drawing: the request has come through."""


@contextmanager
def recording(model: Model) -> Iterator[list[Request]]:
    """The requests that a model is asked to plan, none of which it draws."""
    requests: list[Request] = []

    def plan(request: Request) -> Any:
        requests.append(request)
        raise Seen("prompt", "seen")

    model.plan_pictures = plan  # type: ignore[method-assign]
    try:
        yield requests
    finally:
        del model.plan_pictures


def at_bounds(field: Field) -> list[Any]:
    """Values that are just allowed."""
    match field:
        case Integer():
            return [field.minimum, *([] if field.maximum is None else [field.maximum])]
        case Number():
            lowest = math.nextafter(field.minimum, math.inf) if field.is_open else field.minimum
            return [lowest, *([] if math.isinf(field.maximum) else [field.maximum])]
        case Text():
            return ["x" * field.maximum]
        case Choice():
            return [*field.choices, *field.aliases, *([field.example] if field.example else [])]
        case Size():
            return [f"{field.minimum}x{field.maximum}", f"{field.maximum}x{field.minimum}", "auto"]
        case Flag():
            return [True, False]
    return []


def outside(field: Field) -> list[Any]:
    """Values that are just not allowed."""
    match field:
        case Integer():
            return [field.minimum - 1, *([] if field.maximum is None else [field.maximum + 1])]
        case Number():
            lowest = field.minimum if field.is_open else math.nextafter(field.minimum, -math.inf)
            return [lowest, *([] if math.isinf(field.maximum) else [math.nextafter(field.maximum, math.inf)])]
        case Text():
            return ["x" * (field.maximum + 1)]
        case Choice():
            return ["nonsense", ""]
        case Size():
            return [f"{field.minimum - 1}x{field.maximum}", f"{field.minimum}x{field.maximum + 1}", "large"]
    return []


def is_image(field: Field) -> bool:
    return isinstance(field, Picture)


def picture(size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.linear_gradient("L").resize(size)


Send = Callable[[dict[str, Any]], Any]
"""Sends fields by public name on one surface; gives what was answered, as text."""


def text(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer)
