"""Whole edits of handwritten digits by a model that knows the truth: each training digit with a little around it, and
the exact consistency function of that. Judged by the nearest training digit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.data.digits import Digits
from fewstep.data.toys import Mixture
from fewstep.generation import Edit, Request
from fewstep.lab.exact import Exact
from fewstep.models.codecs import SpaceToDepth
from grey_models import Truthful, truthful

SIDE, SPREAD, ASKED = 8, 0.12, 40
CODEC = SpaceToDepth(2, (0.305,), (0.376,), sigma_data=0.5)


class Known:
    """The exact consistency function of the training digits."""

    targets, epsilon = Targets.CLEAN, 0.0

    def __init__(self, digits: Any) -> None:
        data = CODEC.encode(digits).reshape(len(digits), -1)
        self.exact = Exact(Mixture(np.ones(len(data)), data, SPREAD, scaled=False), steps=8)

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        flat = self.exact.flow(x.reshape(len(x), -1), at, Level(np.ones(len(x)), np.zeros(len(x))))
        return flat.reshape(x.shape).astype(np.float32)


def examples(split: Any) -> tuple[Any, Any]:
    digits = Digits(SIDE, split)
    drawn = [digits.example(i, np.random.default_rng(0)) for i in range(len(digits))]
    return np.stack([example.data for example in drawn]), np.array([example.label for example in drawn])


@pytest.fixture(scope="module")
def judge() -> KNeighborsClassifier:
    data, labels = examples("train")
    return KNeighborsClassifier(1).fit(data.reshape(len(data), -1), labels)


@pytest.fixture(scope="module")
def model() -> Truthful:
    return truthful("digits", SIDE, CODEC, Known(examples("train")[0]))


def picture(pixels: Any) -> Image.Image:
    return Image.fromarray(np.round(255 * pixels.clip(0, 1)).astype(np.uint8))


def pixels(image: Image.Image) -> Any:
    return np.asarray(image, dtype=np.float32) / 255


def right(judge: KNeighborsClassifier, made: Any, labels: Any) -> float:
    return float((judge.predict(np.stack(made).reshape(len(made), -1)) == labels).mean())


@pytest.fixture(scope="module")
def shown() -> tuple[Any, Any]:
    """Digits that the model never saw."""
    data, labels = examples("test")
    return data[:ASKED, 0], labels[:ASKED]


def edited(model: Truthful, digits: Any, make: Any, **choices: Any) -> Any:
    """One picture for each digit."""
    return [
        pixels(model.generate_all(Request(seed=i, edit=make(picture(digit)), **choices))[0])
        for i, digit in enumerate(digits)
    ]


def test_the_digits_themselves_are_told_apart(judge: KNeighborsClassifier, shown: tuple[Any, Any]) -> None:
    assert right(judge, list(shown[0]), shown[1]) > 0.9


def test_a_hidden_lower_half_is_drawn_to_fit_the_upper_one(
    model: Truthful, judge: KNeighborsClassifier, shown: tuple[Any, Any]
) -> None:
    digits, labels = shown
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (0, 4, SIDE, SIDE))
    fitted = edited(model, digits, lambda image: Edit(image, mask, fit=4), steps=4)
    replaced = edited(model, digits, lambda image: Edit(image, mask, fit=0), steps=4)
    for made in (fitted, replaced):
        np.testing.assert_array_equal(
            np.stack(made)[:, :4], np.stack([pixels(picture(digit)) for digit in digits])[:, :4]
        )
    assert right(judge, fitted, labels) > right(judge, replaced, labels) + 0.1
    assert right(judge, fitted, labels) > 0.5


def test_a_small_digit_is_enlarged_to_the_digit_it_was(
    model: Truthful, judge: KNeighborsClassifier, shown: tuple[Any, Any]
) -> None:
    digits, labels = shown
    small = digits.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
    fitted = edited(model, small, lambda image: Edit.super_resolve(image, fit=4), steps=4)
    replaced = edited(model, small, lambda image: Edit.super_resolve(image, fit=0), steps=4)
    smooth = [pixels(picture(digit).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for digit in small]
    for made in (fitted, replaced):
        means = np.stack(made).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(means, small, atol=0.03)
    off = [np.abs(np.stack(made) - digits).mean() for made in (fitted, replaced, smooth)]
    assert off == sorted(off)
    assert right(judge, fitted, labels) > max(0.5, right(judge, replaced, labels))


def test_noise_is_taken_out_of_digits(model: Truthful, judge: KNeighborsClassifier, shown: tuple[Any, Any]) -> None:
    digits, labels = shown
    noisy = digits + 0.4 * np.random.default_rng(1).standard_normal(digits.shape)
    made = edited(model, noisy, lambda image: Edit.denoise(image, noise=0.4))
    before = np.stack([pixels(picture(digit)) for digit in noisy])
    assert np.abs(np.stack(made) - digits).mean() < 0.7 * np.abs(before - digits).mean()
    assert right(judge, made, labels) > 0.8


def test_a_digit_goes_on_beyond_its_border(
    model: Truthful, judge: KNeighborsClassifier, shown: tuple[Any, Any]
) -> None:
    digits, labels = shown
    made = edited(model, digits[:, :6], lambda image: Edit.beyond(image, bottom=1 / 3))
    for one, digit in zip(made, digits, strict=True):
        assert one.shape == (SIDE, SIDE)
        np.testing.assert_array_equal(one[:6], pixels(picture(digit[:6])))
    assert right(judge, made, labels) > 0.75


def test_between_two_seeds_lie_digits(model: Truthful) -> None:
    data = examples("train")[0].reshape(-1, SIDE**2)
    frames = [pixels(frame) for frame in model.generate_all(Request(seed=3, to_seed=4, images=9))]
    for end, seed in ((frames[0], 3), (frames[-1], 4)):
        np.testing.assert_array_equal(end, pixels(model.generate_all(Request(seed=seed))[0]))
    far = [np.sqrt(((data - frame.ravel()) ** 2).mean(axis=1)).min() for frame in frames]
    mixed = (frames[0] + frames[-1]) / 2
    assert max(far) < np.sqrt(((data - mixed.ravel()) ** 2).mean(axis=1)).min()
