"""Framing of sketches: a sketch of any size and position is shown to the model as large and central as in training,
and the picture is placed back where the sketch is, so that the network need not learn every position."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image

from fewstep.pictures.paper import on_nothing

NEAREST = 0.4
"""The smallest window, as a share of the side: smaller sketches are unfinished and not magnified further."""

_FINE = 16  # sketches are examined at no more than this many times the model's side

_COVERED = 25  # alpha, out of 255, below which a pixel is the soft edge of a stroke


@dataclass(frozen=True)
class Window:
    """A part of a picture, in fractions of its width and height; it may reach beyond the picture.

    Args:
        left, top: position of its corner.
        side: width and height, above 0.
    """

    left: float
    top: float
    side: float

    @property
    def rounded(self) -> list[float]:
        """The window as rounded numbers, for a record."""
        return [round(value, 4) for value in (self.left, self.top, self.side)]

    @property
    def inverse(self) -> Window:
        """The window that, applied to this window's picture, shows the whole picture again."""
        return Window(-self.left / self.side, -self.top / self.side, 1 / self.side)

    def shown(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The content of the window at `size` (width, height); outside the picture all channels are 0."""
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
    """The layout of a picture that was drawn within a window: it is placed back where the window is."""

    window: Window

    def laid_back(self, drawn: Image.Image, size: tuple[int, int]) -> Image.Image:
        return self.window.inverse.shown(drawn, size)


def framed(image: Image.Image, fills: float, size: tuple[int, int]) -> tuple[Image.Image, Window | None]:
    """A sketch as shown to a model of transparent pictures, and the window that is shown, None for the whole sketch.

    Args:
        image: the sketch, of any size and mode.
        fills: the longer side of things in training, as a share of the picture's side.
        size: (width, height) of the model's pictures.
    """
    drawn = on_nothing(image, max(size))
    drawn.thumbnail((_FINE * max(size), _FINE * max(size)), Image.Resampling.LANCZOS)
    sketch = _squared(drawn)
    window = window_of(sketch, fills, max(size))
    return (image, None) if window is None else (window.shown(sketch, size), window)


def window_of(sketch: Image.Image, fills: float, pixels: int) -> Window | None:
    """The window that shows a sketch as large and central as things in training; None if it already is, or is empty.

    Args:
        sketch: square RGBA image; transparent pixels are not drawn.
        fills: the longer side of things in training, as a share of the picture's side.
        pixels: side of the model's pictures; deviations below one of these pixels are ignored.
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
