"""A sketch of any size and place, shown to the model as large and central as things stood in training; the picture is
laid back to where the sketch is. So a network that learned one place need not learn all."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image

from fewstep.pictures.paper import on_nothing

NEAREST = 0.4
"""The smallest window, as a share of the side: what is smaller is a beginning, not a thing to be magnified."""

_FINE = 16  # times the model's side is as fine as a sketch is looked at

_COVERED = 25  # of 255: fainter is the soft edge of a stroke


@dataclass(frozen=True)
class Window:
    """A part of a picture, in fractions of its width and height; it may reach beyond the picture.

    Args:
        left, top: where it begins.
        side: how wide and high it is, above 0.
    """

    left: float
    top: float
    side: float

    @property
    def rounded(self) -> list[float]:
        """For a record."""
        return [round(value, 4) for value in (self.left, self.top, self.side)]

    @property
    def inverse(self) -> Window:
        """The window of what this one shows that shows the whole picture again."""
        return Window(-self.left / self.side, -self.top / self.side, 1 / self.side)

    def shown(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """What lies in the window, at `size` (width, height); beyond the picture is nothing, all channels 0."""
        width, height = picture.size
        left, top = self.left * width, self.top * height
        right, bottom = left + self.side * width, top + self.side * height
        before = max(0, ceil(-left)), max(0, ceil(-top))
        after = max(0, ceil(right - width)), max(0, ceil(bottom - height))
        whole = Image.new(picture.mode, (width + before[0] + after[0], height + before[1] + after[1]))
        whole.paste(picture, before)
        box = (left + before[0], top + before[1], right + before[0], bottom + before[1])
        return whole.resize(size, Image.Resampling.LANCZOS, box=box)


@dataclass(frozen=True)
class Framed:
    """The layout of a picture that was drawn within a window: it is laid back to where the window is."""

    window: Window

    def laid_back(self, drawn: Image.Image, size: tuple[int, int]) -> Image.Image:
        return self.window.inverse.shown(drawn, size)


def framed(image: Image.Image, fills: float, size: tuple[int, int]) -> tuple[Image.Image, Window | None]:
    """A sketch as it is shown to a model of transparent pictures, and the window that this is, None for all of it.

    Args:
        image: of any size and mode.
        fills: the share of the side that the longer side of a thing took in training.
        size: the model's (width, height).
    """
    drawn = on_nothing(image, max(size))
    drawn.thumbnail((_FINE * max(size), _FINE * max(size)), Image.Resampling.LANCZOS)
    sketch = _squared(drawn)
    window = window_of(sketch, fills, max(size))
    return (image, None) if window is None else (window.shown(sketch, size), window)


def window_of(sketch: Image.Image, fills: float, pixels: int) -> Window | None:
    """The window in which a sketch stands as things stood in training; None if it does already, or is empty.

    Args:
        sketch: square, RGBA; what is transparent is not drawn.
        fills: the share of the side that the longer side of a thing took in training.
        pixels: the model's a side: what is less than one of them off stands well.
    """
    covered = np.asarray(sketch.getchannel("A")) > _COVERED
    columns, rows = (np.flatnonzero(covered.any(axis=axis)) for axis in (0, 1))
    if not columns.size:
        return None
    (left, right), (top, bottom) = (
        (line[0] / sketch.width, (line[-1] + 1) / sketch.width) for line in (columns, rows)
    )
    side = min(1.0, max(NEAREST, max(right - left, bottom - top) / fills))
    window = Window((left + right - side) / 2, (top + bottom - side) / 2, side)
    off = max(abs(window.left), abs(window.top), abs(window.left + side - 1), abs(window.top + side - 1))
    return None if off * pixels < 1 else window


def _squared(picture: Image.Image) -> Image.Image:
    """An RGBA picture in the middle of a transparent square."""
    if picture.width == picture.height:
        return picture
    side = max(picture.size)
    whole = Image.new("RGBA", (side, side))
    whole.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return whole
