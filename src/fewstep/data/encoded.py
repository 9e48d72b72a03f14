"""Captioned images encoded once by a codec and kept on disk, so that training needs neither images nor codec.

Images keep about their shape: each goes into the bucket of the nearest aspect ratio, and a batch is from one bucket.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.core.randomness import derive
from fewstep.data.dataset import DataError, Example
from fewstep.data.sources import Pictures

log = logging.getLogger(__name__)

Size = tuple[int, int]
"""Height and width in pixels."""

INDEX = "images.json"
LOGGED = 100  # images encoded between two lines of the log


def bucket_sizes(side: int, step: int, widest: float = 2.0) -> list[Size]:
    """Sizes of about side² pixels, multiples of `step`, from a width:height of 1/widest to widest.

    Raises:
        ValueError: side is smaller than step.
    """
    if side < step:
        raise ValueError(f"resolution must be at least {step}, got {side}")
    area, root = side * side, math.sqrt(widest)
    widths = range(math.ceil(side / root / step), math.floor(side * root / step) + 1)
    sizes = {(max(step, round(area / (step * n) / step) * step), step * n) for n in widths}
    square = side // step * step
    turned = {(width, height) for height, width in sizes}
    return sorted({(square, square), *sizes, *turned}, key=lambda size: size[1] / size[0])


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images in buckets.

    Args:
        facts: JSON values that say what was encoded and how.
        sizes: the buckets.
        captions: of each bucket, one per image, "" for none.
        latents: of each bucket, float16 [images, c, h, w].
    """

    facts: Mapping[str, Any]
    sizes: tuple[Size, ...]
    captions: tuple[tuple[str, ...], ...] = field(repr=False)
    latents: tuple[Any, ...] = field(compare=False, repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.captions))

    @property
    def all_captions(self) -> list[str]:
        """The distinct captions."""
        return list(dict.fromkeys(caption for captions in self.captions for caption in captions))

    def bucket_at(self, seed: int, step: int) -> int:
        """The bucket of a step's batch: each in proportion to its images."""
        place = derive("bucket", seed, step) % len(self)
        bounds = np.cumsum([len(captions) for captions in self.captions])
        return int(np.searchsorted(bounds, place, side="right"))

    def example(self, bucket: int, index: int) -> Example:
        """An encoded image, float32 [c, h, w], with its caption."""
        return Example(np.asarray(self.latents[bucket][index], dtype=np.float32), self.captions[bucket][index])


def encode_images(
    opened: Callable[[Size], Pictures],
    sizes: Sequence[Size],
    encode: Callable[[Any], Any],
    folder: Path,
    facts: Mapping[str, Any],
    passes: int = 1,
) -> EncodedImages:
    """Encode images into a folder, or read what an earlier call with the same facts left there.

    Args:
        opened: function from a size to the images framed to it.
        sizes: the buckets' sizes.
        encode: function from pixels float32 [1, c, h, w] to data [1, c', h', w'].
        folder: a folder for these images alone.
        facts: JSON values that identify images and encoder.
        passes: how often each image is drawn, which matters where crops, flips or captions are random.

    Raises:
        DataError: the folder holds something else, or there are no readable images.
    """
    known = {**facts, "sizes": [list(size) for size in sizes], "passes": passes}
    if not (folder / INDEX).is_file():
        _write(opened, sizes, encode, folder, known, passes)
    return read_images(folder, known)


def read_images(folder: Path, facts: Mapping[str, Any] | None = None) -> EncodedImages:
    """Read what `encode_images` wrote.

    Raises:
        DataError: it cannot be read, or its facts are others.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        sizes = tuple((int(height), int(width)) for height, width in index["buckets"])
        captions = tuple(tuple(map(str, each)) for each in index["captions"])
        latents = tuple(np.load(_file(folder, size), mmap_mode="r") for size in sizes)
        if [len(each) for each in latents] != [len(each) for each in captions]:
            raise ValueError("its arrays do not have one latent for each caption")
        found = dict(index["facts"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"cannot read encoded images in '{folder}': {error}; delete it to encode again") from error
    wanted = found if facts is None else json.loads(json.dumps(facts))
    if other := sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name)):
        raise DataError(f"'{folder}' was encoded with another {', '.join(other)}: delete it, or give another folder")
    return EncodedImages(found, sizes, captions, latents)


def _write(
    opened: Callable[[Size], Pictures],
    sizes: Sequence[Size],
    encode: Callable[[Any], Any],
    folder: Path,
    facts: Mapping[str, Any],
    passes: int,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    places = _places(opened(sizes[len(sizes) // 2]), sizes)
    kept = [(size, chosen) for size, chosen in zip(sizes, places, strict=True) if chosen]
    captions: list[list[str]] = []
    done, total = 0, passes * sum(len(chosen) for _, chosen in kept)
    for size, chosen in kept:
        images = opened(size)
        arrays, said = [], []
        for draw in range(passes):
            for index in chosen:
                example = images.example(index, np.random.Generator(np.random.Philox(derive("pass", draw, index))))
                arrays.append(np.asarray(encode(example.data[None])[0], dtype=np.float16))
                said.append(example.caption)
                done += 1
                if done % LOGGED == 0 or done == total:
                    log.info("%d of %d images encoded", done, total)
        np.save(_file(folder, size), np.stack(arrays))
        captions.append(said)
    content = {"facts": facts, "buckets": [size for size, _ in kept], "captions": captions}
    scratch = folder / f".{INDEX}"
    scratch.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(folder / INDEX)  # last, so that a folder with an index is whole


def _places(images: Pictures, sizes: Sequence[Size]) -> list[list[int]]:
    """The indices of the images in each bucket; images that cannot be read are in none."""
    aspects = np.log([width / height for height, width in sizes])
    places: list[list[int]] = [[] for _ in sizes]
    small = 0
    for index in range(len(images)):
        if (sides := images.sides(index)) is None:
            continue
        bucket = int(np.abs(aspects - math.log(sides[0] / sides[1])).argmin())
        places[bucket].append(index)
        small += sides[1] < sizes[bucket][0] or sides[0] < sizes[bucket][1]
    if not any(places):
        raise DataError(f"no image of {len(images)} can be read")
    if small:
        log.warning(
            "%s: %d of %d images are smaller than the resolution and enlarged", images.name, small, len(images)
        )
    return places


def _file(folder: Path, size: Size) -> Path:
    return folder / f"latents-{size[0]}x{size[1]}.npy"
