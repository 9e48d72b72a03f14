"""Pictures by what people call them: a folder, shards or a Hugging Face data set; and their channels' statistics."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fewstep.data.dataset import DataError, Dataset
from fewstep.data.hugging_face import HuggingFace
from fewstep.data.image_folder import ImageFolder, files_under
from fewstep.data.shards import Shards
from fewstep.pictures.decode import SUFFIXES
from fewstep.pictures.frame import Channels, Crop

Pictures = ImageFolder | Shards | HuggingFace


def open_pictures(
    source: str,
    size: int,
    channels: Channels = "RGB",
    split: str = "train",
    flip: bool = False,
    crop: Crop = "center",
    caption_column: str | None = None,
    config: str | None = None,
) -> Pictures:
    """Open images wherever they are.

    Args:
        source: a folder of images, .tar shards (a file, a folder or a pattern), or a Hugging Face data set by name or
            path, a folder of .parquet files among them. A leading ~ is the home directory.
        size: pixels a side.
        channels, flip, crop: how an image is brought to size; see `fewstep.pictures.decode.Frame`.
        split: of a Hugging Face data set, or of a folder of images that has splits.
        caption_column: the column that holds the captions, of a folder's metadata or a Hugging Face data set.
        config: the name of a configuration of a Hugging Face data set.

    Raises:
        DataError: nothing of that kind is there, it holds no images, or a setting that it does not have.
    """
    source = os.path.expanduser(source)  # noqa: PTH111  pathlib's raises for an unknown user
    kind = _kind(Path(source))
    if config is not None and kind is not HuggingFace:
        raise DataError(f"config is for Hugging Face data sets, and {source} is none: leave it out, got {config!r}")
    if kind is ImageFolder:
        return ImageFolder(source, size, channels, split=split, flip=flip, crop=crop, caption_column=caption_column)
    if kind is HuggingFace:
        return HuggingFace(
            source,
            split,
            size=size,
            channels=channels,
            caption_column=caption_column,
            config=config,
            flip=flip,
            crop=crop,
        )
    if caption_column is not None:
        raise DataError(f"shards have no columns: leave caption_column out, got {caption_column!r}")
    return Shards(source, size, channels, flip=flip, crop=crop)


def _kind(path: Path) -> type[Pictures]:
    """How a source is read: a folder by what it holds, images before anything else."""
    if path.suffix == ".tar" and not path.is_dir():
        return Shards
    if not path.is_dir() or any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return HuggingFace
    files = [Path(name) for name in files_under(path)[0]]
    suffixes = {file.suffix.lower() for file in files}
    if any(file.name == "metadata.parquet" for file in files):  # imagefolder's, which `datasets` alone reads
        return HuggingFace
    if suffixes & SUFFIXES:
        return ImageFolder
    if any(path.glob("*.tar")):
        return Shards
    return HuggingFace if ".parquet" in suffixes else ImageFolder


def channel_statistics(dataset: Dataset, most: int = 1000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel's pixels, over at most `most` examples spread evenly.

    A channel that never changes (the alpha of opaque pictures) is given a deviation of 1/255.
    """
    count = min(most, len(dataset))
    rng = np.random.Generator(np.random.Philox(0))
    total, squares = np.zeros(dataset.shape[0]), np.zeros(dataset.shape[0])
    for i in range(count):
        pixels = dataset.example(i * len(dataset) // count, rng).data.astype(np.float64)
        total += pixels.mean(axis=(1, 2))
        squares += (pixels**2).mean(axis=(1, 2))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 255.0**-2))
    return tuple(round(float(v), 4) for v in mean), tuple(round(float(v), 4) for v in std)
