"""How a model's picture is merged with the edited image, at any size: kept parts come from the image itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from fewstep.editing.projections import LUMA, block_means, enlarged
from fewstep.pictures.pixels import PixelFormat, Pixels, on_background, to_image, to_pixels

BISECTIONS = 16
"""Tolerance for values in −1 … 1: far below the step of a byte."""


class Layout(Protocol):
    """A function from the model's picture, at the model's size, to the result at `size` (width, height)."""

    def laid_back(self, drawn: Image.Image, size: tuple[int, int]) -> Image.Image: ...


@dataclass(frozen=True)
class Plain:
    """The model's picture, overlaid with the pixels of the image that a mask keeps.

    Args:
        shape: (width, height) of the image.
        image: the image whose kept pixels are used; None keeps nothing.
        free: 255 where a pixel may change, 0 elsewhere, at the image's size; None without an image.
    """

    shape: tuple[int, int]
    image: Image.Image | None = None
    free: Image.Image | None = None

    def laid_back(self, drawn: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The model's picture at `size`, with kept pixels taken from the image; exact at the image's own size.

        At the model's own size the margin is kept; at any other it is cropped.
        """
        native = drawn.size
        if size != native:
            drawn = drawn.resize(size, Image.Resampling.LANCZOS, box=fitted(self.shape, native))
        if self.image is None or self.free is None:
            return drawn
        place = fitted(self.shape, size) if size == native else (0, 0, *size)
        within = (place[2] - place[0], place[3] - place[1])
        kept, free = self.image.convert(drawn.mode), self.free
        if within != self.shape:
            kept = kept.resize(within, Image.Resampling.LANCZOS)
            free = free.resize(within, Image.Resampling.BOX).point(lambda share: 255 * (share > 0))
        whole = drawn.copy()
        whole.paste(Image.composite(drawn.crop(place), kept, free), place[:2])
        return whole


@dataclass(frozen=True)
class Coloured:
    """The image's own greys and transparency with the colours of the model's picture.

    Colour is the difference of a pixel from its grey; it is reduced where it would leave the gamut, so that the grey
    is kept.

    Args:
        image: the image whose greys are kept, up to rounding at its own size.
    """

    image: Image.Image

    def laid_back(self, drawn: Image.Image, size: tuple[int, int]) -> Image.Image:
        native = drawn.size
        place = fitted(self.image.size, size) if size == native else (0, 0, *size)
        within = (place[2] - place[0], place[3] - place[1])
        image = self.image.convert("RGBA")
        if drawn.mode == "RGB":
            image = on_background(image, "white").convert("RGBA")  # as an opaque model sees it
        if within != image.size:
            image = image.resize(within, Image.Resampling.LANCZOS)
        grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
        alpha = np.asarray(image.getchannel("A"), dtype=np.float32)[..., None] / 255
        box = fitted(self.image.size, native)
        colour = [
            np.asarray(Image.fromarray(channel).resize(within, Image.Resampling.BICUBIC, box=box))
            for channel in _chroma(drawn)
        ]
        pixels = in_gamut(grey, np.stack(colour, axis=-1) / np.maximum(alpha, 0.5 / 255))
        made = np.concatenate([pixels, alpha], axis=-1) if drawn.mode == "RGBA" else pixels
        whole = drawn.copy() if size == native else Image.new(drawn.mode, size)
        whole.paste(Image.fromarray(np.round(made * 255).astype(np.uint8)), place[:2])
        return whole


@dataclass(frozen=True)
class Averaged:
    """The model's picture with corrected block means, which clipping to the range of pixels has changed.

    Args:
        shape: (width, height) of the small image.
        means: its pixels in the model's format, [c, h, w] in [0, 1].
        pixel_format: pixel format of the model.
    """

    shape: tuple[int, int]
    means: Pixels
    pixel_format: PixelFormat

    def laid_back(self, drawn: Image.Image, size: tuple[int, int]) -> Image.Image:
        factor = drawn.width // self.means.shape[-1]
        pixels = to_pixels(drawn, (len(self.means), drawn.height, drawn.width), self.pixel_format)
        most = np.ones_like(pixels)
        if self.pixel_format == "rgba_premultiplied":
            pixels[3:] = with_means(pixels[3:], self.means[3:], most[3:], factor)
            most[:3] = pixels[3:]
        colours = slice(3) if self.pixel_format == "rgba_premultiplied" else slice(None)
        pixels[colours] = with_means(pixels[colours], self.means[colours], most[colours], factor)
        return Plain(self.shape).laid_back(to_image(pixels, self.pixel_format), size)


def with_means(pixels: Pixels, means: Pixels, most: Pixels, factor: int) -> Pixels:
    """The nearest pixels in [0, most] whose blocks have these means: each block plus a constant, clipped.

    Args:
        pixels, most: [c, h, w] in [0, 1].
        means: [c, h/factor, w/factor], at most the means of `most`.
        factor: a block's side.
    """
    low, high = np.full_like(means, -1.0), np.ones_like(means)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        moved = np.clip(pixels + enlarged(middle[None], factor)[0], 0, most)
        below = block_means(moved[None], factor)[0] < means
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    shifted: Pixels = np.clip(pixels + enlarged(high[None], factor)[0], 0, most)
    return shifted


def _chroma(picture: Image.Image) -> Pixels:
    """The difference of each premultiplied colour from its grey: float32 [3, h, w]."""
    pixels = np.asarray(picture.convert("RGBA"), dtype=np.float32).transpose(2, 0, 1) / 255
    colour = pixels[:3] * pixels[3:]
    chroma: Pixels = colour - np.tensordot(np.array(LUMA, dtype=np.float32), colour, axes=1)
    return chroma


def in_gamut(grey: Pixels, chroma: Pixels) -> Pixels:
    """grey [..., 1] in [0, 1] + t·chroma [..., 3], with the largest t ≤ 1 for each pixel that stays in [0, 1]."""
    room = np.where(chroma > 0, 1 - grey, grey) / np.maximum(np.abs(chroma), 1e-6)
    pixels: Pixels = grey + np.minimum(1, room.min(axis=-1, keepdims=True)) * chroma
    return pixels


def fitted(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of an image of `size` fitted into a frame."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    width, height = (max(1, round(side * scale)) for side in size)
    left, top = (frame[0] - width) // 2, (frame[1] - height) // 2
    return left, top, left + width, top + height
