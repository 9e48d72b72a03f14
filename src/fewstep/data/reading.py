"""What the image sources share: reading images by index, reporting bad files, captions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.data.dataset import DataError, Skipped
from fewstep.pictures.decode import BadImage, decode
from fewstep.pictures.frame import Frame

CAPTION_KEYS = ("text", "caption", "prompt")
MOST_WARNINGS = 5  # per kind, so that a folder of HEIC files does not cause thousands

log = logging.getLogger(__name__)


def report(skipped: Skipped, name: str, reason: str) -> None:
    """Record a file that cannot be used, and warn about it once."""
    if skipped.add(name, reason):
        log.warning("%s: skipped: %s", name, reason)


def report_all(skipped: Skipped, reasons: Mapping[str, str], source: str) -> None:
    """Record files that cannot be used for one kind of reason; warn about the first few and count the rest."""
    for place, (name, reason) in enumerate(reasons.items()):
        if place < MOST_WARNINGS:
            report(skipped, name, reason)
        else:
            skipped.add(name, reason)
    if len(reasons) > MOST_WARNINGS:
        log.warning("%s: %d more like these were skipped", source, len(reasons) - MOST_WARNINGS)


class Pictures:
    """Framed pixels by index, from any numbered image files.

    An image that cannot be read is recorded in `skipped` with one warning and replaced by the next readable one, the
    same each time, whatever was read before.

    Args:
        count: number of images.
        name: function from an index to the image's name in warnings.
        read: function from an index to the file, as bytes or a path; may raise BadImage.
        frame: how images are resized and cropped.
        cache_bytes: most bytes of decoded pixels to keep in memory; 0 for none.
    """

    def __init__(
        self,
        count: int,
        name: Callable[[int], str],
        read: Callable[[int], bytes | Path],
        frame: Frame,
        cache_bytes: int = 2**28,
    ) -> None:
        self.frame = frame
        self.skipped = Skipped()
        self._count = count
        self._name = name
        self._read = read
        self._room = cache_bytes
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._bad: set[int] = set()

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[int, NDArray[np.float32]]:
        """The index of the image that was read, and its pixels float32 [c, h, w].

        Raises:
            IndexError: `index` is not between 0 and the number of images − 1.
            DataError: no image at all can be read.
        """
        count = self._count
        if not 0 <= index < count:
            raise IndexError(f"index must be between 0 and {count - 1}, got {index}")
        for step in range(count):
            place = (index + step) % count
            pixels = self._pixels(place)
            if pixels is not None:
                return place, self.frame.draw(pixels, rng)
        name, reason = next(iter(self.skipped.reasons.items()))
        raise DataError(f"no image of {count} can be read; {name}: {reason}")

    def sides(self, index: int) -> tuple[int, int] | None:
        """Width and height of an image, shrunk at most to the frame; None, with a warning, if it cannot be read."""
        try:
            image = decode(self._read(index), max(self.frame.height, self.frame.width))
        except BadImage as error:
            self._bad.add(index)
            report(self.skipped, self._name(index), str(error))
            return None
        return image.width, image.height

    def _pixels(self, index: int) -> NDArray[np.uint8] | None:
        if index in self._bad:
            return None
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        try:
            image = decode(self._read(index), max(self.frame.height, self.frame.width))
            pixels = self.frame.prepare(image)
        except BadImage as error:
            self._bad.add(index)
            report(self.skipped, self._name(index), str(error))
            return None
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._kept[index] = pixels
        return pixels


def captions_in(row: Mapping[str, Any], column: str | None = None) -> tuple[str, ...]:
    """The captions of a metadata row: from `column`, or from the first of text, caption and prompt that is filled."""
    for key in CAPTION_KEYS if column is None else (column,):
        if found := texts(row.get(key)):
            return found
    return ()


def texts(value: Any) -> tuple[str, ...]:
    """A caption or a list of captions as a tuple without empty and repeated ones."""
    several = value if isinstance(value, (list, tuple)) else [value]
    return tuple(dict.fromkeys(text for one in several if one is not None and (text := str(one).strip())))


def one_of(captions: Sequence[str], rng: np.random.Generator) -> str:
    """A random one of an example's captions; "" if there are none."""
    if len(captions) < 2:
        return captions[0] if captions else ""
    return captions[int(rng.integers(len(captions)))]


def words(name: str) -> str:
    """A class or folder name as words: "red_panda" gives "red panda"."""
    return " ".join(name.replace("_", " ").replace("-", " ").split())
