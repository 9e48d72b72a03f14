"""Open pictures from a folder, shards or a Hugging Face data set, and compute their channel statistics."""

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
    size: int | tuple[int, int],
    channels: Channels = "RGB",
    split: str = "train",
    flip: bool = False,
    crop: Crop = "center",
    caption_column: str | None = None,
    config: str | None = None,
) -> Pictures:
    """Open images from any supported source.

    Args:
        source: a folder of images, .tar shards (a file, a folder or a pattern), or a Hugging Face data set by name or
            path, including a folder of .parquet files. A leading ~ is the home directory.
        size: the side, or (height, width), in pixels.
        channels, flip, crop: how images are framed; see `fewstep.pictures.decode.Frame`.
        split: split of a Hugging Face data set, or of a folder of images that has splits.
        caption_column: column with the captions, in a folder's metadata or a Hugging Face data set.
        config: name of a configuration of a Hugging Face data set.

    Raises:
        DataError: the source does not exist, holds no images, or does not support a setting.
    """
    source = os.path.expanduser(source)  # noqa: PTH111  pathlib's raises for an unknown user
    kind = _kind(Path(source))
    if config is not None and kind is not HuggingFace:
        raise DataError(f"config is only for Hugging Face data sets, not {source}: leave it out, got {config!r}")
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
    """The class that reads a source; a folder is judged by its content, and images come first."""
    if path.suffix == ".tar" and not path.is_dir():
        return Shards
    if not path.is_dir() or any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return HuggingFace
    files = [Path(name) for name in files_under(path)[0]]
    suffixes = {file.suffix.lower() for file in files}
    if any(file.name == "metadata.parquet" for file in files):  # imagefolder's, which only `datasets` reads
        return HuggingFace
    if suffixes & SUFFIXES:
        return ImageFolder
    if any(path.glob("*.tar")):
        return Shards
    return HuggingFace if ".parquet" in suffixes else ImageFolder


def channel_statistics(dataset: Dataset, most: int = 1000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels of each channel, over at most `most` evenly spread examples.

    A constant channel (the alpha of opaque pictures) gets a deviation of 1/255.
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
