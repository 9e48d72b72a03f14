"""An edit in a model's data: where the jumps begin, what they keep, how the answer is laid back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewstep.editing.constraints import Measurement
from fewstep.editing.layouts import Layout


@dataclass(frozen=True)
class StartImage:
    """An image at which the jumps begin, instead of at pure noise.

    Args:
        data: float32 [1, ...].
        ratio: the level's σ/α.
        fresh: whether noise of that level is laid over the data; else it is in them already.
    """

    data: Any
    ratio: float
    fresh: bool = True


@dataclass(frozen=True)
class Prepared:
    """An edit in a model's data.

    Args:
        known: what is kept, or None.
        start: None for pure noise.
        settings: for the record.
        layout: how the model's picture becomes the answer.
    """

    known: Measurement | None
    start: StartImage | None
    settings: Mapping[str, Any]
    layout: Layout
