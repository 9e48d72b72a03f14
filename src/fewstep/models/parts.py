"""The parts of a model as JSON: frozen dataclasses by kind. Unknown kinds and fields raise errors that name them."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fewstep.core.levels import VE, VP, Linear, Trig
from fewstep.core.parameterisations import Clipped, Data, Edm, Epsilon, Lcm, V, Velocity

PARTS: dict[str, type[Any]] = {
    "edm": Edm,
    "epsilon": Epsilon,
    "v": V,
    "data": Data,
    "velocity": Velocity,
    "clipped": Clipped,
    "lcm": Lcm,
    "ve": VE,
    "linear": Linear,
    "trig": Trig,
    "vp": VP,
}
"""Parts that consist only of numbers. Named components of a model are in `fewstep.models.components.KINDS`."""

BOUND = {"bound": True}
"""Metadata of a field whose value is set when the model is assembled, and is never written."""

_KINDS = {part: kind for kind, part in PARTS.items()}


class ModelError(ValueError):
    """A model that cannot be used: the message names the file and says what is wrong with it."""


def to_plain(value: Any) -> Any:
    """A part, or a value made of parts, as JSON values; infinity, which JSON lacks, becomes the text inf."""
    if type(value) in _KINDS:
        return {"kind": _KINDS[type(value)], **settings_of(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return settings_of(value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain` for parts; JSON lists become tuples, and the text inf becomes infinity."""
    if isinstance(value, Mapping) and "kind" in value:
        kind = value["kind"]
        if kind not in PARTS:
            raise ModelError(f"unknown part '{kind}': this version knows {', '.join(sorted(PARTS))}")
        return with_settings(kind, PARTS[kind], {name: v for name, v in value.items() if name != "kind"})
    if isinstance(value, list):
        return tuple(from_plain(v) for v in value)
    return math.inf if value == "inf" else value


def settings_of(part: Any) -> dict[str, Any]:
    """The fields of a part as JSON values, except those marked `BOUND`."""
    return {field.name: to_plain(getattr(part, field.name)) for field in _written(type(part))}


def with_settings(kind: str, part: type[Any], settings: Mapping[str, Any]) -> Any:
    """An instance of a part's class with fields from JSON values; error messages call it `kind`.

    Raises:
        ModelError: a setting is unknown, or its value has the wrong type.
        TypeError: a setting without a default is missing.
        ValueError: the part rejects a value.
    """
    known = {field.name for field in _written(part)}
    if unknown := sorted(set(settings) - known):
        raise ModelError(f"part '{kind}' has unknown settings: {', '.join(unknown)}")
    fields = {name: from_plain(value) for name, value in settings.items()}
    check_types(part, fields)
    return part(**fields)


def _written(part: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(part) if not field.metadata.get("bound")]


def check_types(kind: type[Any], fields: Mapping[str, Any]) -> None:
    """Raise ModelError for a value that does not have the declared type of its field, or is NaN."""
    hints = get_type_hints(kind)
    for name, value in fields.items():
        if not _fits(value, hints[name]):
            raise ModelError(f"{name} must be {_described(hints[name])}, got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        wanted = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return len(value) == len(wanted) and all(map(_fits, value, wanted))
    if hint is float:
        return type(value) in (int, float) and not math.isnan(value)
    if hint in (int, bool, str):
        return type(value) is hint
    if origin is Sequence or origin is Mapping:
        return isinstance(value, (list, tuple) if origin is Sequence else Mapping)
    return value is None if hint is type(None) else True  # a protocol: its methods are called when the model is read


def _described(hint: Any) -> str:
    plain = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described(one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    return plain.get(hint, "a list" if get_origin(hint) in (tuple, Sequence) else "an object")
