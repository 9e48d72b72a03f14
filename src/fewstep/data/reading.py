"""What the image sources share beyond pixels: reading by index, what to do about a bad file, captions."""

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
MOST_WARNINGS = 5  # of one kind: a folder of thousands of HEIC is one message, not thousands

log = logging.getLogger(__name__)


def report(skipped: Skipped, name: str, reason: str) -> None:
    """Count what cannot be used, and warn of it once."""
    if skipped.add(name, reason):
        log.warning("%s: skipped: %s", name, reason)


def report_all(skipped: Skipped, reasons: Mapping[str, str], source: str) -> None:
    """Count all that cannot be used for one kind of reason; warn of the first few and of how many more there are."""
    for place, (name, reason) in enumerate(reasons.items()):
        if place < MOST_WARNINGS:
            report(skipped, name, reason)
        else:
            skipped.add(name, reason)
    if len(reasons) > MOST_WARNINGS:
        log.warning("%s: %d more like these were skipped", source, len(reasons) - MOST_WARNINGS)


class Pictures:
    """Framed pixels by index, from any numbered image files.

    An image that cannot be read is counted in `skipped`, warned of once, and replaced by the next that can: the
    same one each time, whatever was read before.

    Args:
        count: how many images there are.
        name: what the image at an index is called in warnings.
        read: the file of an index, as bytes or a path; may raise BadImage.
        frame: how each is brought to size.
        cache_bytes: how many bytes of decoded pixels may be kept in memory; 0 for none.
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
        """(the index that was read, its data float32 [c, h, w]).

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
    """The captions of a metadata row: of `column`, or of the first of text, caption, prompt that it has."""
    for key in CAPTION_KEYS if column is None else (column,):
        if row.get(key) is not None:
            return texts(row[key])
    return ()


def texts(value: Any) -> tuple[str, ...]:
    """One caption, or a list of them, as a tuple without blanks and repeats."""
    several = value if isinstance(value, (list, tuple)) else [value]
    return tuple(dict.fromkeys(text for one in several if one is not None and (text := str(one).strip())))


def one_of(captions: Sequence[str], rng: np.random.Generator) -> str:
    """One of an example's captions, drawn where there are several; "" where there is none."""
    if len(captions) < 2:
        return captions[0] if captions else ""
    return captions[int(rng.integers(len(captions)))]


def words(name: str) -> str:
    """A class or folder name as words: "red_panda" gives "red panda"."""
    return " ".join(name.replace("_", " ").replace("-", " ").split())
