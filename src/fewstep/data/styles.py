"""Rule-based recolouring, drawing styles and sketches of transparent images: they turn one picture into a family from
which colour words, style words and control images can be learned.

Every function takes and returns premultiplied RGBA, float32 [4, h, w] in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

Image4 = Any
"""Premultiplied RGBA, float32 [4, h, w] in [0, 1]."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.15, 0.15),
    "orange": (0.95, 0.52, 0.08),
    "yellow": (0.96, 0.82, 0.12),
    "green": (0.20, 0.66, 0.26),
    "blue": (0.16, 0.42, 0.88),
    "purple": (0.56, 0.24, 0.78),
    "pink": (0.96, 0.45, 0.68),
    "brown": (0.50, 0.30, 0.16),
    "black": (0.12, 0.12, 0.13),
    "white": (0.92, 0.92, 0.93),
    "gray": (0.50, 0.50, 0.52),
}
"""Each colour word and the sRGB colour that mid-grey becomes."""


def hexadecimal(colour: tuple[float, float, float]) -> str:
    """An sRGB colour in [0, 1] as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in colour))


_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def split(image: Image4) -> tuple[Any, Any]:
    """Straight colour [3, h, w] and alpha [1, h, w]; colour is 0 where alpha is 0."""
    alpha = image[3:]
    return np.where(alpha > 1e-3, image[:3] / np.maximum(alpha, 1e-3), 0.0).clip(0, 1), alpha


def join(colour: Any, alpha: Any) -> Image4:
    """Premultiplied RGBA from straight colour and alpha."""
    return np.concatenate([colour * alpha, alpha]).astype(np.float32)


def luminance(colour: Any) -> Any:
    """Rec. 601 luma [h, w] of straight colour [3, h, w]."""
    return np.tensordot(_LUMA, colour, axes=1)


def recolour(image: Image4, colour: str) -> Image4:
    """Paint an image in one hue: dark parts stay dark, light parts stay light, mid-tones take the colour."""
    straight, alpha = split(image)
    # centre the tones on each picture's mean, so that dark and light pictures both show the hue
    luma = luminance(straight)
    weight = alpha[0]
    mean = float((luma * weight).sum() / max(float(weight.sum()), 1e-3))
    tone = (0.5 + 0.8 * (luma - mean)).clip(0, 1)[None]
    hue = np.array(COLOURS[colour], dtype=np.float32)[:, None, None]
    painted = np.where(tone < 0.5, 2 * tone * hue, 1 - 2 * (1 - tone) * (1 - hue))
    return join(painted, alpha)


def flat(image: Image4) -> Image4:
    """Large areas of few tones: a median filter, then four levels per channel."""
    straight, alpha = split(image)
    smooth = _filtered(straight, ImageFilter.MedianFilter(3))
    return join(np.round(smooth * 3) / 3, np.round(alpha * 2) / 2)


def outline(image: Image4) -> Image4:
    """Dark lines where colour or coverage changes, nothing between them."""
    return join(np.full((3, *image.shape[1:]), 0.1, dtype=np.float32), edges(image)[None])


def pixel_art(image: Image4, cells: int = 12) -> Image4:
    """Large square pixels of few tones with hard edges."""
    size = image.shape[1:]
    small = np.stack([_resized(channel, (cells, cells), Image.Resampling.BOX) for channel in image])
    straight, alpha = split(small)
    blocks = join(np.round(straight * 4) / 4, (alpha > 0.5).astype(np.float32))
    return np.stack([_resized(channel, (size[1], size[0]), Image.Resampling.NEAREST) for channel in blocks])


def silhouette(image: Image4) -> Image4:
    """One dark shape."""
    return join(np.full((3, *image.shape[1:]), 0.08, dtype=np.float32), image[3:])


def pastel(image: Image4) -> Image4:
    """Soft, light colours: half the saturation, mixed with white."""
    straight, alpha = split(image)
    grey = luminance(straight)[None]
    return join(0.5 + 0.5 * (grey + 0.6 * (straight - grey)), alpha)


def neon(image: Image4) -> Image4:
    """Bright, saturated lines where colour or coverage changes, the rest nearly black."""
    straight, alpha = split(image)
    grey = luminance(straight)[None]
    vivid = 0.5 + 2.5 * (straight - grey)
    bright = 0.35 + 0.65 * (vivid / np.maximum(vivid.max(axis=0), 1e-3)).clip(0, 1)
    lines = edges(image)[None]
    return join(lines * bright + (1 - lines) * 0.3 * straight**2, alpha)


def night(image: Image4) -> Image4:
    """As if by moonlight: dark and almost only blue."""
    straight, alpha = split(image)
    grey = luminance(straight)[None]
    tint = np.array([0.28, 0.36, 0.72], dtype=np.float32)[:, None, None]
    return join(0.04 + 0.7 * (0.3 * straight + 0.7 * grey) * tint, alpha)


STYLES: dict[str, Callable[[Image4], Image4]] = {
    "flat": flat,
    "outline": outline,
    "pixel art": pixel_art,
    "silhouette": silhouette,
    "pastel": pastel,
    "neon": neon,
    "night": night,
}
"""The style functions by style word."""


def lines(image: Image4, rng: np.random.Generator) -> Image4:
    """Lines along every edge."""
    return _inked(image, image, rng)


def contour(image: Image4, rng: np.random.Generator) -> Image4:
    """One line around the outer contour."""
    return _inked(image, np.repeat(_shape(image, rng), 4, axis=0), rng)


def patches(image: Image4, rng: np.random.Generator) -> Image4:
    """Flat areas of few colours."""
    straight, alpha = split(image)
    smooth = _filtered(straight, ImageFilter.MedianFilter(5))
    levels = int(rng.integers(2, 4))
    return join(np.round(smooth * levels) / levels, (alpha > 0.5).astype(np.float32))


def blob(image: Image4, rng: np.random.Generator) -> Image4:
    """The whole shape in one colour."""
    return join(np.broadcast_to(_mean_colour(image), (3, *image.shape[1:])), _shape(image, rng))


SKETCHES: dict[str, Callable[[Image4, np.random.Generator], Image4]] = {
    "lines": lines,
    "contour": contour,
    "patches": patches,
    "blob": blob,
}
"""The kinds of sketches that people draw in a hurry."""

_OFTEN = np.cumsum([0.36, 0.24, 0.24])


def sketch(image: Image4, rng: np.random.Generator) -> Image4:
    """One of `SKETCHES`, with random line weight, colour and wobble; sometimes unfinished."""
    drawn = list(SKETCHES.values())[int(np.searchsorted(_OFTEN, rng.random()))](_wobble(image, rng), rng)
    return _unfinished(drawn, rng) if rng.random() < 0.3 else drawn


def _inked(image: Image4, seen: Image4, rng: np.random.Generator) -> Image4:
    """Lines where `seen` has edges, dark or in the picture's mean colour."""
    drawn = edges(seen, threshold=float(rng.uniform(0.12, 0.3)))
    if rng.random() < 0.4:
        drawn = _filtered(drawn[None], ImageFilter.MaxFilter(3))[0]
    ink = np.full((3, 1, 1), rng.uniform(0, 0.3)) if rng.random() < 0.6 else _mean_colour(image)
    strength = np.float32(rng.uniform(0.7, 1))
    return join(np.broadcast_to(ink, (3, *image.shape[1:])), strength * drawn[None])


def _shape(image: Image4, rng: np.random.Generator) -> Any:
    """The covered area [1, h, w], 0 or 1; in half of the draws rounded, as in a hasty drawing."""
    alpha = image[3:]
    if rng.random() < 0.5:
        radius = float(rng.uniform(1, 4)) * image.shape[1] / 32
        alpha = _filtered(alpha, ImageFilter.GaussianBlur(radius))
    return (alpha > 0.5 * alpha.max()).astype(np.float32)


def _unfinished(drawn: Image4, rng: np.random.Generator) -> Image4:
    """Erase everything on one side of a random line, as if not drawn yet."""
    height, width = drawn.shape[1:]
    rows, columns = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0, 2 * np.pi)
    along = (rows / height - 0.5) * np.sin(angle) + (columns / width - 0.5) * np.cos(angle)
    there = drawn[3] > 0.1
    if not there.any():
        return drawn
    kept: Image4 = drawn * (along <= np.quantile(along[there], rng.uniform(0.3, 0.9)))
    return kept


def _mean_colour(image: Image4) -> Any:
    """The mean straight colour [3, 1, 1] of the covered area."""
    total = np.maximum(image[3].sum(), 1e-3)
    return (image[:3].sum(axis=(1, 2)) / total)[:, None, None].clip(0, 1)


def edges(image: Image4, threshold: float = 0.2) -> Any:
    """The strength of edges of colour or coverage at each pixel [h, w], in [0, 1]."""
    on_white = image[:3] + (1 - image[3:])
    tones = np.concatenate([on_white, image[3:]])
    padded = np.pad(tones, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    strength = np.sqrt(across**2 + down**2).max(axis=0)
    return ((strength - threshold) / 0.4).clip(0, 1).astype(np.float32)


def _wobble(image: Image4, rng: np.random.Generator) -> Image4:
    """Shift every pixel by a smooth random field of about one pixel."""
    return warped(image, float(rng.uniform(0, 1.2)) * image.shape[1] / 32, rng)


def warped(channels: Any, amount: float, rng: np.random.Generator) -> Any:
    """Channels [c, h, w] with every pixel shifted by a smooth random field of about this many pixels."""
    height, width = channels.shape[1:]
    field = [_resized(rng.normal(size=(4, 4)).astype(np.float32), (width, height)) * amount for _ in range(2)]
    rows, columns = np.mgrid[0:height, 0:width]
    rows = np.clip(np.round(rows + field[0]), 0, height - 1).astype(int)
    columns = np.clip(np.round(columns + field[1]), 0, width - 1).astype(int)
    return channels[:, rows, columns]


def _resized(channel: Any, size: tuple[int, int], how: Image.Resampling = Image.Resampling.BICUBIC) -> Any:
    return np.asarray(Image.fromarray(np.ascontiguousarray(channel, dtype=np.float32)).resize(size, how))


def _filtered(channels: Any, what: ImageFilter.Filter) -> Any:
    """Apply a Pillow filter to each channel [c, h, w] in [0, 1]."""
    return np.stack(
        [
            np.asarray(Image.fromarray((channel * 255).round().astype(np.uint8)).filter(what), dtype=np.float32) / 255
            for channel in channels
        ]
    )
