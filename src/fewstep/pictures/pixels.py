"""Arrays of pixels as Pillow images and back."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from fewstep.pictures.frame import Channels, Frame
from fewstep.pictures.paper import is_opaque, on_nothing, paper_colour

Pixels: TypeAlias = NDArray[np.floating[Any]]
"""One picture [c, h, w], or a batch [b, c, h, w], with values in [0, 1]."""

PixelFormat = Literal["rgba_premultiplied", "rgb", "grey", "points"]
CHANNELS: dict[PixelFormat, int] = {"rgba_premultiplied": 4, "rgb": 3, "grey": 1}
_FRAMES: dict[PixelFormat, Channels] = {"grey": "L", "rgb": "RGB", "rgba_premultiplied": "RGBA"}


def to_image(pixels: Pixels, pixel_format: PixelFormat, background: str = "transparent") -> Image.Image:
    """One image [c, h, w] in [0, 1] as a Pillow image; a transparent one is placed on `background`."""
    if pixel_format == "grey":
        return Image.fromarray(_bytes(pixels[0]))
    if pixel_format == "rgb":
        return Image.fromarray(_bytes(pixels).transpose(1, 2, 0))
    if pixel_format != "rgba_premultiplied":
        raise ValueError(f"pixels of the format '{pixel_format}' are not a picture")
    alpha = pixels[3:].clip(0, 1)
    colour = pixels[:3].clip(0, alpha)
    if background == "transparent":
        straight = np.where(alpha > 0.5 / 255, colour / np.maximum(alpha, 0.5 / 255), 0)
        return Image.fromarray(_bytes(np.concatenate([straight, alpha])).transpose(1, 2, 0))
    behind = np.array(ImageColor.getrgb(background)[:3], dtype=np.float32)[:, None, None] / 255
    return Image.fromarray(_bytes(colour + (1 - alpha) * behind).transpose(1, 2, 0))


def on_background(picture: Image.Image, background: str) -> Image.Image:
    """A picture with alpha placed on a colour, as RGB; opaque pixels stay the same. Others are returned unchanged."""
    if background == "transparent" or picture.mode != "RGBA":
        return picture
    behind = Image.new("RGBA", picture.size, ImageColor.getrgb(background))
    return Image.alpha_composite(behind, picture).convert("RGB")


def from_image(image: Image.Image, shape: tuple[int, ...], pixel_format: PixelFormat) -> Pixels:
    """A drawing of any size and mode as float32 [c, h, w] in [0, 1], for a model of these pixels.

    The whole picture is shown; with another aspect ratio, the margins are transparent. Models of transparent images
    were trained on sketches without paper, so the paper of an opaque drawing is made transparent: all pixels with the
    colour of its border, also inside an outline. A picture with a border of several colours is kept as it is. Opaque
    models see paper: transparency becomes white, and the margins get the colour of the border.
    """
    if pixel_format == "rgba_premultiplied":
        return to_pixels(on_nothing(image, max(shape[1:])), shape, pixel_format)
    picture, behind = image.convert("RGBA"), (255, 255, 255)
    if is_opaque(picture):
        picture = picture.convert("RGB")
        red, green, blue = (int(value) for value in paper_colour(np.asarray(picture)))
        behind = (red, green, blue)
    return to_pixels(picture, shape, pixel_format, behind)


def to_pixels(
    image: Image.Image,
    shape: tuple[int, ...],
    pixel_format: PixelFormat,
    behind: tuple[int, int, int] = (255, 255, 255),
) -> Pixels:
    """The whole of a picture of any size and mode, with its paper, as float32 [c, h, w] in [0, 1]. With another
    aspect ratio, the margins are transparent, or have the colour `behind` if the model's pictures are opaque."""
    _, height, width = shape
    if pixel_format == "rgba_premultiplied" and image.mode == "RGBA" and image.size == (width, height):
        pixels = np.asarray(image.convert("RGBa"))  # the same as from the frame below, but faster
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    picture = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")
    pixels = Frame((height, width), _FRAMES[pixel_format], crop="pad", background=behind).prepare(picture)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def noise_of(pixels: Pixels) -> float:
    """An estimate of the standard deviation of the white noise in pixels [c, h, w] in [0, 1].

    It is the median of the absolute values of the finest diagonal Haar coefficients, divided by 0.6745, the median
    for standard normal noise (Donoho & Johnstone 1994, doi:10.1093/biomet/81.3.425): edges are few and hardly change
    a median. Coefficients that are exactly 0 are left out, since their pixels are clipped or of a uniform colour.
    """
    _, h, w = pixels.shape
    cells = pixels[:, : h // 2 * 2, : w // 2 * 2].astype(np.float64)
    diagonal = (cells[:, ::2, ::2] - cells[:, ::2, 1::2] - cells[:, 1::2, ::2] + cells[:, 1::2, 1::2]) / 2
    there = np.abs(diagonal[diagonal != 0])
    return float(np.median(there) / 0.6745) if there.size else 0.0


def _bytes(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.round(values.clip(0, 1) * 255).astype(np.uint8))
