"""Arrays of pixels as Pillow images that know what made them."""

from __future__ import annotations

import os
from typing import IO, Any

import numpy as np
from PIL import Image, ImageColor

from fewstep import provenance
from fewstep.models.saved import PixelFormat
from fewstep.provenance import Record


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


def from_image(image: Image.Image, shape: tuple[int, ...], pixel_format: PixelFormat) -> Any:
    """A picture as float32 [c, h, w] in [0, 1], resized to `shape`."""
    channels, height, width = shape
    mode = {"grey": "L", "rgb": "RGB", "rgba_premultiplied": "RGBA"}[pixel_format]
    resized = image.convert(mode).resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(resized, dtype=np.float32).reshape(height, width, channels).transpose(2, 0, 1) / 255
    if pixel_format == "rgba_premultiplied":
        pixels = np.concatenate([pixels[:3] * pixels[3:], pixels[3:]])
    return np.ascontiguousarray(pixels)


def _bytes(values: Any) -> Any:
    return np.ascontiguousarray(np.round(values.clip(0, 1) * 255).astype(np.uint8))
