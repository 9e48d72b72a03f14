"""Pillow images that know what made them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from PIL import Image

from fewstep.pictures.embed import read_record, save
from fewstep.pictures.plain import ProvenanceError
from fewstep.pictures.record import Record


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
        """Write the picture, with its record unless `metadata` is False; see `fewstep.pictures.embed.save`."""
        target = os.fsdecode(fp) if isinstance(fp, (bytes, os.PathLike)) else fp
        save(self, target, self.record if metadata else None, format, **params)


def with_record(picture: Image.Image, source: Path | bytes) -> Image.Image:
    """A picture with the record in the file it was read from, if that has one that can be read."""
    try:
        record = read_record(source)
    except ProvenanceError:  # a picture is a picture, whatever it says of itself
        return picture
    return picture if record is None else GeneratedImage.of(picture, record)


def prompt_of(picture: Image.Image) -> str:
    """What a picture's record says that it shows; empty where it has none."""
    return picture.record.prompt if isinstance(picture, GeneratedImage) else ""
