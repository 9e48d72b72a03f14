"""Arrays of pixels as Pillow images that know what made them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageColor

from fewstep import provenance
from fewstep.models.saved import PixelFormat
from fewstep.provenance import Record

PAPER_REACH = 24  # of 255 in any channel: what JPEG and a camera make of one colour
PAPER_SHARE = 0.75  # of the border: a line may run off the edge
_FINE = 512  # the most pixels a side at which paper is looked for


class GeneratedImage(Image.Image):
    """A Pillow image with the `record` of what made it; saving it as PNG, JPEG or WebP embeds the record.

    What its methods make of it (`resize`, `crop`, `rotate`, `convert`, …) carries the record too, as it is: it tells
    what was drawn, not what became of it. So does what `Image.blend`, `Image.alpha_composite` and `Image.merge` make
    where this is the first image they are given.
    """

    record: Record

    def _new(self, im: Any) -> GeneratedImage:
        # where Pillow's methods get their results from; a private name of Pillow's, so tests hold each to it
        return GeneratedImage._around(Image.Image._new(self, im), self.record)

    def transform(self, *args: Any, **options: Any) -> GeneratedImage:
        """Pillow's `transform`, which starts from an image without a record."""
        return GeneratedImage._around(Image.Image.transform(self, *args, **options), self.record)

    def copy(self) -> GeneratedImage:
        """The same picture with the same record."""
        return GeneratedImage.of(self, self.record)

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and deep copies keep the record."""
        return GeneratedImage.of, (self._plain(), self.record)

    @classmethod
    def of(cls, image: Image.Image, record: Record) -> GeneratedImage:
        """A copy of a picture with its record."""
        return cls._around(Image.Image.copy(image), record)

    @classmethod
    def _around(cls, image: Image.Image, record: Record) -> GeneratedImage:
        """An image just made, which nobody else holds, with its record; its pixels are not copied."""
        generated = cls()
        generated.__dict__.update(image.__dict__)
        generated.record = record
        return generated

    def _plain(self) -> Image.Image:
        """A copy that is Pillow's own."""
        return Image.Image._new(self, self.im.copy())

    def save(
        self,
        fp: str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes],
        format: str | None = None,
        *,
        metadata: bool = True,
        **params: Any,
    ) -> None:
        """Write the picture, with its record unless `metadata` is False; see `fewstep.provenance.save`."""
        target = os.fsdecode(fp) if isinstance(fp, (bytes, os.PathLike)) else fp
        provenance.save(self, target, self.record if metadata else None, format, **params)


def with_record(picture: Image.Image, source: Path | bytes) -> Image.Image:
    """A picture with the record in the file it was read from, if that has one that can be read."""
    try:
        record = provenance.read_record(source)
    except provenance.ProvenanceError:  # a picture is a picture, whatever it says of itself
        return picture
    return picture if record is None else GeneratedImage.of(picture, record)


def prompt_of(picture: Image.Image) -> str:
    """What a picture's record says that it shows; empty where it has none."""
    return picture.record.prompt if isinstance(picture, GeneratedImage) else ""


def to_image(pixels: Any, pixel_format: PixelFormat, background: str = "transparent") -> Image.Image:
    """One image [c, h, w] in [0, 1] as Pillow's; transparent ones are laid on `background`."""
    if pixel_format == "grey":
        return Image.fromarray(_bytes(pixels[0]))
    if pixel_format == "rgb":
        return Image.fromarray(_bytes(pixels).transpose(1, 2, 0))
    if pixel_format != "rgba_premultiplied":
        raise ValueError(f"pixels of the format '{pixel_format}' are no picture")
    alpha = pixels[3:].clip(0, 1)
    colour = pixels[:3].clip(0, alpha)
    if background == "transparent":
        straight = np.where(alpha > 0.5 / 255, colour / np.maximum(alpha, 0.5 / 255), 0)
        return Image.fromarray(_bytes(np.concatenate([straight, alpha])).transpose(1, 2, 0))
    behind = np.array(ImageColor.getrgb(background)[:3], dtype=np.float32)[:, None, None] / 255
    return Image.fromarray(_bytes(colour + (1 - alpha) * behind).transpose(1, 2, 0))


def on_background(picture: Image.Image, background: str) -> Image.Image:
    """A picture with alpha laid on a colour: RGB; opaque pixels stay as they are. Others are given back unchanged."""
    if background == "transparent" or picture.mode != "RGBA":
        return picture
    behind = Image.new("RGBA", picture.size, ImageColor.getrgb(background))
    return Image.alpha_composite(behind, picture).convert("RGB")


def from_image(image: Image.Image, shape: tuple[int, ...], pixel_format: PixelFormat) -> Any:
    """A drawing of any size and mode as float32 [c, h, w] in [0, 1], for a model of these pixels.

    The whole picture is shown; what is left of another aspect is transparent. A transparent model learned from
    sketches on nothing, so of an opaque drawing the paper is taken away: the colour of its border, also inside an
    outline. A picture whose border is of several colours stays as it is. Opaque models see paper: transparency is
    laid on white, and what is left is of the border's colour.
    """
    if pixel_format == "rgba_premultiplied":
        return to_pixels(on_nothing(image, max(shape[1:])), shape, pixel_format)
    picture, behind = image.convert("RGBA"), (255, 255, 255)
    if _is_opaque(picture):
        picture = picture.convert("RGB")
        red, green, blue = (int(value) for value in _paper(np.asarray(picture)))
        behind = (red, green, blue)
    return to_pixels(picture, shape, pixel_format, behind)


def on_nothing(image: Image.Image, side: int) -> Image.Image:
    """A drawing as RGBA, an opaque one without its paper; for a model of `side` pixels."""
    picture = image.convert("RGBA")
    if not _is_opaque(picture):
        return picture
    return without_paper(picture.convert("RGB"), max(side, _FINE)).convert("RGBA")


def _is_opaque(picture: Image.Image) -> bool:
    return bool(picture.getchannel("A").getextrema() == (255, 255))


def to_pixels(
    image: Image.Image,
    shape: tuple[int, ...],
    pixel_format: PixelFormat,
    behind: tuple[int, int, int] = (255, 255, 255),
) -> Any:
    """A picture of any size and mode as it is, all of it: float32 [c, h, w] in [0, 1], the margin of another aspect
    transparent, or `behind` where the model's pictures are opaque."""
    _, height, width = shape
    if pixel_format == "rgba_premultiplied" and image.mode == "RGBA" and image.size == (width, height):
        pixels = np.asarray(image.convert("RGBa"))  # what the frame below would give, without looking for it
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    from fewstep.data.images import Channels, Frame  # loads every data source: only for requests with a picture

    formats: dict[str, Channels] = {"grey": "L", "rgb": "RGB", "rgba_premultiplied": "RGBA"}
    picture = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")
    pixels = Frame((height, width), formats[pixel_format], crop="pad", background=behind).prepare(picture)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def without_paper(picture: Image.Image, most: int) -> Image.Image:
    """An RGB drawing without its paper: RGBA, at most `most` pixels a side.

    The paper is whatever has the border's colour. A picture whose border is of several colours is given back as it
    is.
    """
    small = picture.copy()
    small.thumbnail((most, most), Image.Resampling.LANCZOS)
    pixels = np.asarray(small).astype(np.int16)
    like = (np.abs(pixels - _paper(pixels)) <= PAPER_REACH).all(axis=2)
    if _border(like).mean() < PAPER_SHARE:
        return picture
    small.putalpha(Image.fromarray(np.where(like, 0, 255).astype(np.uint8)))
    return small


def _paper(pixels: Any) -> Any:
    """The middle colour [c] of the border of [h, w, c]."""
    return np.median(_border(pixels), axis=0)


def _border(values: Any) -> Any:
    """The outermost rows and columns of [h, w, …] as one list; the corners count twice."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def noise_of(pixels: Any) -> float:
    """The standard deviation of the white noise in pixels [c, h, w] in [0, 1], estimated.

    The median of the absolute finest diagonal Haar coefficients over 0.6745, their median were they noise alone
    (Donoho & Johnstone 1994, doi:10.1093/biomet/81.3.425): edges are few and move a median little. Coefficients that
    are exactly 0 are left out: there pixels are clipped, or a plain colour.
    """
    _, h, w = pixels.shape
    cells = pixels[:, : h // 2 * 2, : w // 2 * 2].astype(np.float64)
    diagonal = (cells[:, ::2, ::2] - cells[:, ::2, 1::2] - cells[:, 1::2, ::2] + cells[:, 1::2, 1::2]) / 2
    there = np.abs(diagonal[diagonal != 0])
    return float(np.median(there) / 0.6745) if there.size else 0.0


def _bytes(values: Any) -> Any:
    return np.ascontiguousarray(np.round(values.clip(0, 1) * 255).astype(np.uint8))
