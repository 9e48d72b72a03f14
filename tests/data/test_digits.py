"""Digits: the real ones, the same split every time."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fewstep.data.dataset import DataError
from fewstep.data.digits import NAMES, Digits
from picture_cases import rng, same


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits_are_one_channel_images_between_0_and_1(size: int) -> None:
    data = Digits(size)
    assert (data.shape, data.classes, data.captions) == ((1, size, size), 10, list(NAMES))
    pixels = np.stack([data.example(index, rng()).data for index in range(len(data))])
    assert (pixels.dtype, pixels.shape) == (np.float32, (1438, 1, size, size))
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_the_splits_are_all_the_digits_and_share_none() -> None:
    from sklearn.datasets import load_digits

    train, test = Digits(split="train"), Digits(split="test")
    assert (len(train), len(test)) == (1438, 359)
    parts = [data.example(i, rng()).data.tobytes() for data in (train, test) for i in range(len(data))]
    whole = (load_digits().images.astype(np.float32) / 16).astype(np.float32)
    assert sorted(parts) == sorted(image.tobytes() for image in whole)


def test_the_caption_is_the_labels_word() -> None:
    data = Digits(split="test")
    for index in range(len(data)):
        example = data.example(index, rng())
        assert example.caption == NAMES[example.label]


def test_the_split_never_changes() -> None:
    data = Digits(split="test")
    assert [data.example(index, rng()).label for index in range(8)] == [5, 4, 8, 3, 2, 8, 9, 2]


def test_writing_into_an_example_leaves_the_data_set_as_it_was() -> None:
    data = Digits()
    before = data.example(0, rng())
    data.example(0, rng()).data[:] = 0.25
    assert same(before, data.example(0, rng()))


def test_a_wrong_setting_names_what_would_be_right() -> None:
    with pytest.raises(DataError, match="size must be at least 8, got 4"):
        Digits(4)
    with pytest.raises(DataError, match="split must be 'train' or 'test', got 'val'"):
        Digits(split="val")


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'fewstep\[train\]'"):
        Digits()
