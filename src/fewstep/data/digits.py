"""Handwritten digits: scikit-learn's copy of the UCI test set, 1797 images that come with the package."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewstep.core.memory import check_memory
from fewstep.core.randomness import derive
from fewstep.data.dataset import DataError, Example

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_SHARE = 0.2


class Digits:
    """The digits as [1, size, size] in [0, 1], labels 0 … 9, captioned "zero" … "nine".

    Args:
        size: side in pixels; the originals have 8, other sizes are interpolated.
        split: "train" (1438 images) or "test" (359), a fixed split by a hash of each image's index.

    Raises:
        DataError: size is below 8, the split is unknown, or scikit-learn is not installed.
    """

    def __init__(self, size: int = 8, split: Literal["train", "test"] = "train") -> None:
        if size < 8:
            raise DataError(f"size must be at least 8, got {size}")
        if split not in ("train", "test"):
            raise DataError(f"split must be 'train' or 'test', got {split!r}")
        images, labels = _load()
        check_memory(4 * len(labels) * size**2, f"a data set of digits at {size} pixels", "choose a smaller size")
        order = np.array(sorted(range(len(labels)), key=lambda index: derive("digits", index)))
        held_out = round(TEST_SHARE * len(labels))
        chosen = order[:held_out] if split == "test" else order[held_out:]
        self.shape = (1, size, size)
        self.name = f"digits-{size}-{split}"
        self.classes = len(NAMES)
        self.captions = list(NAMES)
        self._labels = [int(label) for label in labels[chosen]]
        self._data = np.stack([_resized(image, size) for image in images[chosen]])[:, None]

    def __len__(self) -> int:
        return len(self._labels)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The digit at `index`; there is no augmentation."""
        label = self._labels[index]
        return Example(self._data[index].copy(), NAMES[label], label)


def _load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the digits come with scikit-learn: pip install 'fewstep[train]'") from error
    bunch = load_digits()
    return bunch.images.astype(np.float32) / np.float32(16), bunch.target.astype(np.int64)


def _resized(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if image.shape == (size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.float32).clip(0.0, 1.0)
