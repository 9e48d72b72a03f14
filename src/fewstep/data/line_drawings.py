"""Sketches of stickers, as people draw them: lines with wobble and gaps, areas painted in a few colours, or both.

Pictures are premultiplied RGBA, float32 [4, h, w] in [0, 1]. Lengths are for 128 pixels a side and scale with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from fewstep.data.styles import Image4, edges, join, split, warped

SIDE = 128
WOBBLE = 2.0
"""The largest typical displacement of a line, in pixels."""

PAINTED = 0.5
"""The alpha above which a pixel is part of an area that can be painted."""


@dataclass(frozen=True)
class LineDrawing:
    """A sketch.

    Args:
        image: its picture.
        painted: whether it shows colours of the picture that it was made from.
    """

    image: Image4
    painted: bool


def line_drawing(image: Image4, rng: np.random.Generator, traced: Image4 | None = None) -> LineDrawing:
    """A sketch of a picture: half are lines, a quarter lines over paint, the others paint alone or a contour.

    Args:
        image: the picture.
        rng: draws kind, wobble, thickness, gaps and colours.
        traced: an artist's line drawing of the same thing in the same place, used for most lines; None for none.
    """
    amount = float(rng.uniform(0, WOBBLE)) * image.shape[1] / SIDE
    both = image if traced is None else np.concatenate([image, traced])
    both = warped(both, amount, rng)
    image, traced = both[:4], None if traced is None else both[4:]
    kind = rng.random()
    if kind < 0.5:
        return LineDrawing(_lines(image, traced, rng), painted=False)
    if kind < 0.75:
        lines, paint = _lines(image, traced, rng), _paint(image, rng)
        return LineDrawing((lines + paint * (1 - lines[3:])).astype(np.float32), painted=True)
    if kind < 0.9:
        return LineDrawing(_paint(image, rng), painted=True)
    shape = np.repeat((image[3:] > PAINTED).astype(np.float32), 4, axis=0)
    return LineDrawing(_inked(edges(shape, 0.2), rng), painted=False)


def _lines(image: Image4, traced: Image4 | None, rng: np.random.Generator) -> Image4:
    """Lines of the artist's line drawing, or along the picture's edges."""
    if traced is not None and rng.random() < 0.8:
        return _inked(traced[3], rng)
    return _inked(edges(image, float(rng.uniform(0.12, 0.3))), rng)


def _inked(drawn: Any, rng: np.random.Generator) -> Image4:
    """Lines [h, w] in one dark colour, often thicker, often with gaps."""
    scale = drawn.shape[0] / SIDE
    thickness = int(rng.choice([0, 0, 1, 2]) * scale + 0.5)
    if thickness:
        byte = Image.fromarray((drawn * 255).round().astype(np.uint8))
        drawn = np.asarray(byte.filter(ImageFilter.MaxFilter(2 * thickness + 1)), dtype=np.float32) / 255
    if rng.random() < 0.5:
        drawn = drawn * _kept(drawn.shape, float(rng.uniform(0, 0.25)), rng)
    ink = rng.uniform(0, 0.3, size=(3, 1, 1)) if rng.random() < 0.3 else np.full((3, 1, 1), rng.uniform(0, 0.2))
    return join(np.broadcast_to(ink, (3, *drawn.shape)), drawn[None])


def _paint(image: Image4, rng: np.random.Generator) -> Image4:
    """Areas of a few of the picture's colours, covering all or a part of it."""
    straight, alpha = split(image)
    inside = alpha[0] > PAINTED
    if not inside.any():
        return np.zeros_like(image)
    mean = straight[:, inside].mean(axis=1)[:, None, None]
    filled = (np.where(inside, straight, mean).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    blurred = Image.fromarray(filled).filter(ImageFilter.GaussianBlur(1.5 * image.shape[1] / SIDE))
    few = blurred.quantize(int(rng.integers(2, 7)), Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    covered = inside[None].astype(np.float32)
    if rng.random() < 0.6:
        covered = covered * _kept(inside.shape, float(rng.uniform(0, 0.6)), rng)
    return join(np.asarray(few, dtype=np.float32).transpose(2, 0, 1) / 255, covered)


def _kept(shape: tuple[int, ...], erased: float, rng: np.random.Generator) -> Any:
    """A mask [h, w] that is 0 in blots that together cover about this share."""
    cells = Image.fromarray(rng.normal(size=(9, 9)).astype(np.float32))
    field = np.asarray(cells.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    return (field >= np.quantile(field, erased)).astype(np.float32)
