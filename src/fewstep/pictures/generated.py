"""Pillow images that carry the record of how they were made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from PIL import Image

from fewstep.pictures.embed import read_record, save
from fewstep.pictures.plain import ProvenanceError
from fewstep.pictures.record import Record


class GeneratedImage(Image.Image):
    """A Pillow image with the `record` of how it was made; saving it as PNG, JPEG or WebP embeds the record.

    The results of its methods (`resize`, `crop`, `rotate`, `convert`, …) carry the same record, which tells what was
    drawn, not how it was changed later. So do the results of `Image.blend`, `Image.alpha_composite` and `Image.merge`
    if this is their first image.
    """

    record: Record

    def _new(self, im: Any) -> GeneratedImage:
        # Pillow's methods create their results here; the name is private to Pillow, so tests check every method
        return GeneratedImage._around(Image.Image._new(self, im), self.record)

    def transform(self, *args: Any, **options: Any) -> GeneratedImage:
        """Pillow's `transform`, which creates an image without a record."""
        return GeneratedImage._around(Image.Image.transform(self, *args, **options), self.record)

    def copy(self) -> GeneratedImage:
        """A copy of the picture with the same record."""
        return GeneratedImage.of(self, self.record)

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the record in pickles and deep copies."""
        return GeneratedImage.of, (self._plain(), self.record)

    @classmethod
    def of(cls, image: Image.Image, record: Record) -> GeneratedImage:
        """A copy of a picture with its record."""
        return cls._around(Image.Image.copy(image), record)

    @classmethod
    def _around(cls, image: Image.Image, record: Record) -> GeneratedImage:
        """A new image with its record; the pixels are not copied, so nothing else may use the original."""
        generated = cls()
        generated.__dict__.update(image.__dict__)
        generated.record = record
        return generated

    def _plain(self) -> Image.Image:
        """A copy as a plain Pillow image."""
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
    """A picture with the record in the file that it was read from, if there is one that can be read."""
    try:
        record = read_record(source)
    except ProvenanceError:  # an unreadable record does not make the picture unusable
        return picture
    return picture if record is None else GeneratedImage.of(picture, record)


def prompt_of(picture: Image.Image) -> str:
    """The prompt in a picture's record; empty if it has none."""
    return picture.record.prompt if isinstance(picture, GeneratedImage) else ""
