"""The parts of a model as JSON: frozen dataclasses by kind. Unknown kinds and fields are errors that say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fewstep.core.codecs import Identity, SpaceToDepth
from fewstep.core.levels import VE, VP, Linear, Trig
from fewstep.core.parameterisations import Edm, Epsilon, V, Velocity
from fewstep.models.conditioning import Conditioning

PARTS: dict[str, type[Any]] = {
    "edm": Edm,
    "epsilon": Epsilon,
    "v": V,
    "velocity": Velocity,
    "identity": Identity,
    "space_to_depth": SpaceToDepth,
    "ve": VE,
    "linear": Linear,
    "trig": Trig,
    "vp": VP,
    "conditioning": Conditioning,
}
_KINDS = {part: kind for kind, part in PARTS.items()}


class ModelError(ValueError):
    """A model that cannot be used: the message names the file and says what is wrong with it."""


def to_plain(value: Any) -> Any:
    """A part, or anything made of parts, as JSON values."""
    if type(value) in _KINDS:
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": _KINDS[type(value)], **fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain` for parts; JSON lists become tuples."""
    if isinstance(value, Mapping) and "kind" in value:
        kind = value["kind"]
        if kind not in PARTS:
            raise ModelError(f"unknown part '{kind}': this version knows {', '.join(sorted(PARTS))}")
        known = {f.name for f in dataclasses.fields(PARTS[kind])}
        fields = {name: from_plain(v) for name, v in value.items() if name != "kind"}
        if unknown := sorted(set(fields) - known):
            raise ModelError(f"part '{kind}' has unknown settings: {', '.join(unknown)}")
        return PARTS[kind](**fields)
    if isinstance(value, list):
        return tuple(from_plain(v) for v in value)
    return value
