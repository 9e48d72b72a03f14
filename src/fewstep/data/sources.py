"""Pictures by what people call them: a folder, shards or a Hugging Face data set; and their channels' statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewstep.data.dataset import Dataset
from fewstep.data.hugging_face import HuggingFace
from fewstep.data.image_folder import ImageFolder
from fewstep.data.images import Channels, Crop
from fewstep.data.shards import Shards

Pictures = ImageFolder | Shards | HuggingFace


def open_pictures(
    source: str,
    size: int,
    channels: Channels = "RGB",
    split: str = "train",
    flip: bool = False,
    crop: Crop = "center",
) -> Pictures:
    """Open images wherever they are.

    Args:
        source: a folder of images, .tar shards (a file or a pattern), or a Hugging Face data set by name or path.
        size: pixels a side.
        channels, flip, crop: how an image is brought to size; see `fewstep.data.images.Frame`.
        split: of a Hugging Face data set.

    Raises:
        DataError: nothing of that kind is there, or it holds no images.
    """
    path = Path(source)
    if path.suffix == ".tar":
        return Shards([path], size, channels, flip=flip, crop=crop)
    saved_by_datasets = any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
    if path.is_dir() and not saved_by_datasets:
        return ImageFolder(path, size, channels, flip=flip, crop=crop)
    return HuggingFace(source, split, size=size, channels=channels, flip=flip, crop=crop)


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
