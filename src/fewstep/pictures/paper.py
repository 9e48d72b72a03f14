"""Recognise the paper of a drawing by the colour of its border, and make it transparent."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Scalar = TypeVar("Scalar", bound=np.generic)

PAPER_REACH = 24  # tolerance in any channel, of 255: how much JPEG and cameras vary a single colour
PAPER_SHARE = 0.75  # share of the border that must have the paper's colour: a line may cross the edge
_FINE = 512  # largest side, in pixels, at which paper is searched


def on_nothing(image: Image.Image, side: int) -> Image.Image:
    """A drawing as RGBA, with the paper of an opaque one made transparent; for a model of `side` pixels."""
    picture = image.convert("RGBA")
    if not is_opaque(picture):
        return picture
    return without_paper(picture.convert("RGB"), max(side, _FINE)).convert("RGBA")


def is_opaque(picture: Image.Image) -> bool:
    return bool(picture.getchannel("A").getextrema() == (255, 255))


def without_paper(picture: Image.Image, most: int) -> Image.Image:
    """An RGB drawing as RGBA with its paper made transparent, at most `most` pixels on a side.

    Paper is everything that has the colour of the border. A picture with a border of several colours is returned
    unchanged.
    """
    small = picture.copy()
    small.thumbnail((most, most), Image.Resampling.LANCZOS)
    pixels = np.asarray(small).astype(np.int16)
    like: NDArray[np.bool] = np.all(np.abs(pixels - paper_colour(pixels)) <= PAPER_REACH, axis=2)
    if _border(like).mean() < PAPER_SHARE:
        return picture
    small.putalpha(Image.fromarray(np.where(like, 0, 255).astype(np.uint8)))
    return small


def paper_colour(pixels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The median colour [c] of the border of [h, w, c]."""
    middle: NDArray[np.float64] = np.median(_border(pixels), axis=0)
    return middle


def _border(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """The outermost rows and columns of [h, w, …] as one list; the corners count twice."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
