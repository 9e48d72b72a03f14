"""An edit in a model's data space: where sampling starts, what it keeps, and how the result is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewstep.editing.constraints import Measurement
from fewstep.editing.layouts import Layout


@dataclass(frozen=True)
class StartImage:
    """An image at which sampling starts, instead of pure noise.

    Args:
        data: float32 [1, ...].
        ratio: σ/α of the starting level.
        fresh: whether noise of that level is added to the data; else they already contain it.
    """

    data: Any
    ratio: float
    fresh: bool = True


@dataclass(frozen=True)
class Prepared:
    """An edit in a model's data space.

    Args:
        known: the part of the data that is kept, or None.
        start: the image to start from; None for pure noise.
        settings: the edit's settings for the record.
        layout: how the model's picture becomes the result.
    """

    known: Measurement | None
    start: StartImage | None
    settings: Mapping[str, Any]
    layout: Layout
