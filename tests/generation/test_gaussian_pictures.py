"""Whole edits of grey pictures by a model that knows the truth: its data are a Gaussian, its jump is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.core.randomness import noise
from fewstep.generation import Edit, Request
from fewstep.models.codecs import SpaceToDepth
from grey_models import Truthful, truthful

SIDE, MEAN, STD, SIGMA_MAX = 8, 0.5, 0.08, 80.0
CODEC = SpaceToDepth(2, (MEAN,), (STD,), sigma_data=1.0)
PLACES = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1).reshape(-1, 2)
FAR = ((PLACES[:, None] - PLACES) ** 2).sum(axis=-1)
COVARIANCE = np.exp(-FAR / 18.0) + 0.01 * np.eye(SIDE**2)
"""Of pixels in units of their deviation: smooth pictures."""
VALUES, VECTORS = np.linalg.eigh(COVARIANCE)


def jump(sigma: float) -> Any:
    return VECTORS @ np.diag(np.sqrt(VALUES / (VALUES + sigma**2))) @ VECTORS.T


class Exact:
    """The exact consistency function at levels (α, σ)."""

    targets, epsilon = Targets.CLEAN, 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        flat = CODEC.unmask(x / at.alpha[0]).reshape(len(x), -1)
        made = flat @ jump(float(at.sigma[0] / at.alpha[0])).T
        return CODEC.mask(made.reshape(-1, 1, SIDE, SIDE).astype(np.float32))


@pytest.fixture(scope="module")
def model() -> Truthful:
    return truthful("gaussian", SIDE, CODEC, Exact())


def picture(deviations: Any) -> Image.Image:
    """A picture of numbers in units of the pixels' deviation."""
    side = int(np.sqrt(deviations.size))
    return Image.fromarray(np.round(255 * (MEAN + STD * deviations.reshape(side, side))).astype(np.uint8))


def deviations(image: Image.Image) -> Any:
    return (np.asarray(image) / 255 - MEAN) / STD


def test_what_super_resolution_draws_is_near_the_true_conditional_by_corrections_and_far_without(
    model: Truthful,
) -> None:
    truth = np.linalg.cholesky(COVARIANCE) @ np.random.default_rng(3).standard_normal(SIDE**2)
    rows = np.stack([(block == (PLACES // 4)).all(axis=1) / 16 for block in np.ndindex(2, 2)])  # means of 4 × 4
    gain = COVARIANCE @ rows.T @ np.linalg.inv(rows @ COVARIANCE @ rows.T)
    small = picture(rows @ truth)
    mean = gain @ deviations(small).ravel()
    spread = np.sqrt(np.diag(COVARIANCE - gain @ rows @ COVARIANCE).mean())

    def drawn(fit: int) -> Any:
        images = model.generate_all(Request(seed=1, images=64, edit=Edit.super_resolve(small, fit=fit)))
        return np.stack([deviations(image).ravel() for image in images])

    fitted, replaced = drawn(4), drawn(0)
    for values in (fitted, replaced):
        np.testing.assert_allclose(values @ rows.T, np.tile(deviations(small).ravel(), (64, 1)), atol=0.06)  # bytes
    gaps = [np.sqrt(((values.mean(axis=0) - mean) ** 2).mean()) for values in (fitted, replaced)]
    assert gaps[0] < 3 * spread / np.sqrt(64)
    assert gaps[1] > 3 * gaps[0]
    assert fitted.std(axis=0).mean() == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("amount", [0.02, 0.05])
def test_what_denoising_makes_is_the_jump_from_the_noisy_image_itself(model: Truthful, amount: float) -> None:
    noisy = picture(
        np.linalg.cholesky(COVARIANCE) @ np.random.default_rng(3).standard_normal(SIDE**2)
        + amount / STD * np.random.default_rng(4).standard_normal(SIDE**2)
    )
    (made,) = model.generate_all(Request(seed=9, edit=Edit.denoise(noisy, noise=amount)))
    expected = jump(amount / STD) @ deviations(noisy).ravel()
    np.testing.assert_allclose(deviations(made).ravel(), expected, atol=0.55 / 255 / STD)


def test_the_way_between_two_seeds_is_straight_through_the_jump(model: Truthful) -> None:
    ends = [noise(seed, (4, 4, 4)).astype(float) for seed in (1, 2)]
    cosine = (ends[0] * ends[1]).sum() / np.sqrt((ends[0] ** 2).sum() * (ends[1] ** 2).sum())
    frames = model.generate_all(Request(seed=1, to_seed=2, images=5))
    for t, frame in zip(np.linspace(0, 1, 5), frames, strict=True):
        angle = np.arccos(cosine)
        mixed = (np.sin((1 - t) * angle) * ends[0] + np.sin(t * angle) * ends[1]) / np.sin(angle)
        start = CODEC.unmask((SIGMA_MAX * mixed)[None]).ravel()
        np.testing.assert_allclose(
            deviations(frame).ravel(), (jump(SIGMA_MAX) @ start).clip(-MEAN / STD, MEAN / STD), atol=0.55 / 255 / STD
        )


def test_grey_pictures_get_no_colours(model: Truthful) -> None:
    with pytest.raises(ValueError, match="colorize needs one that draws colours"):
        model.generate_all(Request(edit=Edit.colorize(picture(np.zeros(64)))))
