"""WebDataset shards: uncompressed .tar files in which image and caption share the name before the first dot."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fewstep.data.dataset import DataError, Example, Skipped
from fewstep.data.reading import Pictures, captions_in, one_of, report, texts
from fewstep.pictures.decode import MAX_BYTES, SUFFIXES, BadImage
from fewstep.pictures.frame import Channels, Crop, Frame

MAX_TEXT = 2**20  # largest caption file, in bytes

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Shards:
    """The images of .tar shards, indexed on opening so that each example can be read on its own.

    In a shard, `000.jpg`, `000.txt` and `000.json` make one sample: the image, and captions from the text or from
    text, caption or prompt in the JSON object. A whole number in `000.cls` or under "label" in the JSON is the label.

    What cannot be used (the rest of a damaged shard, an image, a caption) is listed in `skipped` as shard/member with
    one warning; `example` returns the next readable image in its place, always the same.

    Args:
        paths: a shard, a folder of shards, a pattern (`data-*.tar`, `data-{000..127}.tar`), or a list of these.
        size: the side, or (height, width), in pixels.
        channels: "RGB", "RGBA" (premultiplied) or "L".
        flip: mirror images left to right in half of the draws.
        crop: "center" or "random" fill the frame and crop the rest; "pad" shows the whole image.
        background: RGB colour, 0 … 255, behind transparent pixels if `channels` has no alpha.
        cache_bytes: most bytes of decoded pixels to keep in memory.

    Raises:
        DataError: there are no shards, or none of them holds an image.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        size: int | tuple[int, int],
        channels: Channels = "RGB",
        *,
        flip: bool = False,
        crop: Crop = "center",
        background: tuple[int, int, int] = (255, 255, 255),
        cache_bytes: int = 2**28,
    ) -> None:
        frame = Frame(size, channels, flip, crop, background)
        shards = _expand(paths)
        skipped = Skipped()
        self._samples = [sample for shard in shards for sample in _index(shard, skipped)]
        if not self._samples:
            first = next(iter(skipped.reasons.items()), None)
            why = f"; {first[0]}: {first[1]}" if first else ""
            raise DataError(f"no images in {len(shards)} shards, starting with {shards[0]}{why}")
        self.name = shards[0].stem if len(shards) == 1 else shards[0].resolve().parent.name
        self.shape = frame.shape
        samples = self._samples
        self._pictures = Pictures(
            len(samples), lambda i: samples[i].name, lambda i: samples[i].read(), frame, cache_bytes
        )
        self._pictures.skipped = skipped
        self.classes = max((sample.label + 1 for sample in self._samples if sample.label is not None), default=0)

    @property
    def skipped(self) -> Skipped:
        """The members that could not be used so far, as shard/member, with the reasons."""
        return self._pictures.skipped

    @property
    def captions(self) -> list[str]:
        """The distinct captions in the order of the samples."""
        return list(dict.fromkeys(caption for sample in self._samples for caption in sample.captions))

    def __len__(self) -> int:
        return len(self._samples)

    def sides(self, index: int) -> tuple[int, int] | None:
        """Width and height of an image, shrunk at most to the frame; None, with a warning, if it cannot be read."""
        return self._pictures.sides(index)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The image at `index` or the next readable one; crop, flip and caption are drawn from `rng`."""
        index, data = self._pictures(index, rng)
        sample = self._samples[index]
        return Example(data, one_of(sample.captions, rng), sample.label)


@dataclass
class _Sample:
    """The position of an image in a shard, and its captions and label."""

    shard: Path
    member: str = ""
    offset: int = 0
    size: int = 0
    captions: tuple[str, ...] = ()
    label: int | None = None
    others: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.shard.name}/{self.member}"

    def read(self) -> bytes:
        if self.size > MAX_BYTES:
            raise BadImage(f"has {self.size} bytes, more than the {MAX_BYTES} allowed")
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                held = file.read(self.size)
        except OSError as error:
            raise BadImage(f"the shard cannot be read: {error}") from error
        if len(held) < self.size:
            raise BadImage(f"the shard ends after {len(held)} of its {self.size} bytes")
        return held


def _expand(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The shards named by folders, patterns and brace ranges, in order."""
    shards: list[Path] = []
    for given in [paths] if isinstance(paths, (str, Path)) else paths:
        for text in _braces(str(given)):
            path = Path(text)
            if path.is_dir():
                chosen = sorted(path.glob("*.tar"))
            elif path.exists():
                chosen = [path]
            else:
                chosen = sorted(path.parent.glob(path.name))
            if not chosen:
                raise DataError(f"no shards at {text}: give .tar files")
            shards += chosen
    if not shards:
        raise DataError("no shards given")
    return list(dict.fromkeys(shards))


def _braces(text: str) -> list[str]:
    match = _BRACES.search(text)
    if match is None:
        return [text]
    first, last = match.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [text[: match.start()] + number + rest for number in numbers for rest in _braces(text[match.end() :])]


def _index(shard: Path, skipped: Skipped) -> list[_Sample]:
    """The samples of one shard that hold an image, in the order of their first member."""
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isreg() and not path.name.startswith("."):
                    stem, _, ending = path.name.partition(".")
                    sample = samples.setdefault(str(path.parent / stem), _Sample(shard))
                    _add(sample, tar, member, f".{ending.lower()}", skipped)
    except (tarfile.TarError, OSError, EOFError) as error:
        report(skipped, shard.name, f"not a whole, uncompressed tar file: {error}")
    for stem, sample in samples.items():
        if not sample.member:
            report(skipped, f"{shard.name}/{stem}", f"no image beside {', '.join(sample.others)}")
    return [sample for sample in samples.values() if sample.member]


def _add(sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, skipped: Skipped) -> None:
    """Add one member to its sample; of several images, one with a plain ending (.jpg, not .mask.png) is preferred."""
    name = f"{Path(str(tar.name)).name}/{member.name}"
    if "." + ending.rpartition(".")[2] in SUFFIXES:
        if not sample.member or ending in SUFFIXES:
            sample.member, sample.offset, sample.size = member.name, member.offset_data, member.size
        return
    sample.others.append(member.name)
    if ending not in (".txt", ".caption", ".json", ".cls"):
        return
    try:
        text = _text(tar, member)
        if ending == ".cls":
            sample.label = _label(text)
        elif ending == ".json":
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("must be a JSON object")
            sample.captions = tuple(dict.fromkeys(sample.captions + captions_in(values)))
            sample.label = sample.label if values.get("label") is None else _label(values["label"])
        else:
            sample.captions = tuple(dict.fromkeys(sample.captions + texts(" ".join(text.split()))))
    except (ValueError, RecursionError) as error:  # JSON's and UTF-8's errors are ValueErrors
        report(skipped, name, f"caption or label not read: {error}")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > MAX_TEXT:
        raise ValueError(f"has {member.size} bytes, more than the {MAX_TEXT} allowed")
    file = tar.extractfile(member)
    return "" if file is None else file.read().decode("utf-8-sig")


def _label(value: Any) -> int | None:
    """A class number; None for negative numbers, which data sets use for missing labels."""
    if isinstance(value, (bool, float)):
        raise ValueError(f"a label must be a whole number, got {value}")
    number = int(value)
    return number if number >= 0 else None
