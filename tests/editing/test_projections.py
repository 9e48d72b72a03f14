"""What is known as a projection: right in pixels whatever the codec does, and a draw from the conditional on Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fewstep.core.levels import CLEAN, Level, from_ratio
from fewstep.core.parameterisations import Targets
from fewstep.editing import BlockMeans, Constrained, Fitted, Grey, Projected
from fewstep.editing.projections import LUMA, Projection, block_means, enlarged
from fewstep.models.codecs import Identity, PixelCodec, SpaceToDepth

UNEQUAL = SpaceToDepth(2, mean=(0.3, 0.2, 0.6, 0.4), std=(0.1, 0.4, 0.3, 0.5))
CODECS = [Identity(), SpaceToDepth(2), UNEQUAL]


def pixels(count: int = 3, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((count, 4, 8, 12))


def grey(values: Any) -> Any:
    return np.einsum("c,bchw->bhw", np.array(LUMA), values[:, :3])


def projections(codec: PixelCodec) -> list[Projection]:
    return [Grey(codec), BlockMeans(codec, 4)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("which", [0, 1])
def test_it_is_an_orthogonal_projection_of_the_data(codec: PixelCodec, which: int) -> None:
    project = projections(codec)[which]
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal(codec.encode(pixels()).shape) for _ in range(2))
    np.testing.assert_allclose(project(project(x)), project(x), atol=1e-12)
    assert (project(x) * y).sum() == pytest.approx((x * project(y)).sum())
    np.testing.assert_allclose(project(2 * x - y), 2 * project(x) - project(y), atol=1e-12)
    assert 0 < (project(x) ** 2).sum() < (x**2).sum()


@pytest.mark.parametrize("codec", CODECS)
def test_an_estimate_gets_the_known_greys_and_transparency(codec: PixelCodec) -> None:
    known, estimate = pixels(1), pixels(3, seed=2)
    measured = Projected(codec.encode(known), Grey(codec))
    made = codec.decode(measured(codec.encode(estimate), CLEAN))
    np.testing.assert_allclose(grey(made), np.repeat(grey(known), 3, axis=0), atol=1e-12)
    np.testing.assert_allclose(made[:, 3], np.repeat(known[:, 3], 3, axis=0), atol=1e-12)
    assert np.abs(made[:, :3] - known[:, :3]).max() > 0.1
    np.testing.assert_allclose(measured.gap(codec.encode(made)), 0, atol=1e-12)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("factor", [2, 4])
def test_an_estimate_gets_the_known_means_of_blocks(codec: PixelCodec, factor: int) -> None:
    small, estimate = pixels()[:, :, :: factor * 1, ::factor], pixels(3, seed=2)
    measured = Projected(codec.encode(enlarged(small, factor)), BlockMeans(codec, factor))
    made = codec.decode(measured(codec.encode(estimate), CLEAN))
    np.testing.assert_allclose(block_means(made, factor), small, atol=1e-12)
    inside = made - enlarged(block_means(made, factor), factor)
    expected = estimate - enlarged(block_means(estimate, factor), factor)
    np.testing.assert_allclose(inside, expected, atol=1e-12)  # detail is the estimate's


@pytest.mark.parametrize("which", [0, 1])
def test_tensors_are_projected_like_arrays(which: int) -> None:
    known, estimate = UNEQUAL.encode(pixels(1)), UNEQUAL.encode(pixels(seed=2))
    measured = Projected(known, projections(UNEQUAL)[which])
    tensors = measured(torch.from_numpy(estimate), CLEAN)
    np.testing.assert_allclose(tensors.numpy(), measured(estimate, CLEAN), atol=1e-12)


COLOURS = 0.05 * np.eye(3) + np.array([[1.0, 0.7, 0.1], [0.7, 1.0, 0.4], [0.1, 0.4, 1.0]])
TINTED = SpaceToDepth(1, mean=(0.0,) * 3, std=(0.2, 0.5, 1.0), sigma_data=1.0)


class OnePixel:
    """The exact consistency function of one pixel whose data are a Gaussian of these three colours."""

    targets, epsilon = Targets.CLEAN, 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        values, vectors = np.linalg.eigh(COLOURS)
        jump = vectors @ np.diag(np.sqrt(values / (values + float(at.ratio[0]) ** 2))) @ vectors.T
        return np.einsum("dc,bchw->bdhw", jump, x)


def test_one_correction_draws_the_colours_that_a_grey_leaves_open_where_channels_are_scaled_unequally() -> None:
    size = 20_000
    rng = np.random.default_rng(0)
    at = from_ratio(np.full(size, 200.0))
    x = 200.0 * rng.standard_normal((size, 3, 1, 1))
    known = Projected(TINTED.encode(np.full((1, 3, 1, 1), 0.4)), Grey(TINTED))
    drawn = Constrained(Fitted(OnePixel(), known), known)(x, at, CLEAN.batch(size), {})
    made = TINTED.decode(drawn)[:, :, 0, 0]
    std = np.diag(TINTED.std)
    covariance, row = std @ COLOURS @ std, np.array(LUMA)  # of the pixels
    gain = covariance @ row / (row @ covariance @ row)
    np.testing.assert_allclose(made @ row, 0.4, atol=1e-9)
    np.testing.assert_allclose(made.mean(axis=0), 0.4 * gain, atol=0.01)
    np.testing.assert_allclose(np.cov(made.T), covariance - np.outer(gain, row @ covariance), atol=0.01)
    plain = TINTED.decode(Constrained(OnePixel(), known)(x, at, CLEAN.batch(size), {}))[:, :, 0, 0]
    assert np.abs(plain.mean(axis=0) - 0.4 * gain).max() > 0.03  # what replacement alone draws is not that
