"""Metrics against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.measure import metrics
from fewstep.measure.metrics import Share


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def whitened(values: np.ndarray) -> np.ndarray:
    """The same samples with mean 0 and covariance I exactly."""
    centred = values - values.mean(axis=0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False))).T


def test_the_frechet_distance_of_a_set_with_itself_is_0() -> None:
    values = rng().normal(size=(300, 20))
    assert metrics.frechet_distance(values, values) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_between_gaussians_is_the_closed_form() -> None:
    white = whitened(rng().normal(size=(500, 6)))
    mean, scale = np.arange(6.0), np.array([0.5, 1, 2, 3, 1, 0.1])
    # diagonal and hence commuting: ‖μ₁ − μ₂‖² + ‖Σ₁^½ − Σ₂^½‖²
    assert metrics.frechet_distance(white, white * scale + mean) == pytest.approx(55 + ((1 - scale) ** 2).sum())


def test_the_frechet_distance_holds_where_covariances_do_not_commute() -> None:
    white = whitened(rng().normal(size=(500, 2)))
    turn = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    one, other = white * [1, 2], (white * [1, 2]) @ turn.T
    # of 2 × 2 matrices, tr √M = √(tr M + 2·√det M)
    product = np.diag([1.0, 4.0]) @ turn @ np.diag([1.0, 4.0]) @ turn.T
    expected = 10 - 2 * np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert metrics.frechet_distance(one, other) == pytest.approx(expected)


def test_the_frechet_distance_is_symmetric_and_finite_with_fewer_samples_than_dimensions() -> None:
    one, other = rng(1).normal(size=(10, 64)), rng(2).normal(size=(12, 64)) + 1
    there, back = metrics.frechet_distance(one, other), metrics.frechet_distance(other, one)
    assert there == pytest.approx(back)
    assert there > 0


def test_the_kernel_distance_is_unbiased() -> None:
    """In one dimension (xy + 1)³ compares moments: MMD² = 3·Δm₁² + 3·Δm₂² + Δm₃²."""
    draws = [
        metrics.kernel_distance(rng(i).normal(size=(8, 1)), rng(10_000 + i).normal(0.5, 1, size=(8, 1)))
        for i in range(4000)
    ]
    expected = 3 * 0.5**2 + 3 * 0.25**2 + (0.5**3 + 3 * 0.5) ** 2
    assert np.mean(draws) == pytest.approx(expected, abs=4 * np.std(draws) / np.sqrt(len(draws)))
    same = [
        metrics.kernel_distance(rng(i).normal(size=(8, 3)), rng(50_000 + i).normal(size=(8, 3))) for i in range(2000)
    ]
    assert np.mean(same) == pytest.approx(0, abs=4 * np.std(same) / np.sqrt(len(same)))
    assert min(same) < 0


def test_kid_is_the_mean_over_subsets_and_takes_small_sets() -> None:
    one, other = rng(1).normal(size=(60, 4)), rng(2).normal(size=(60, 4)) + 0.5
    mean, deviation = metrics.kid(one, other[None], subsets=400, size=30)
    assert mean == pytest.approx(metrics.kernel_distance(one, other), abs=4 * deviation / np.sqrt(400))
    # a subset that is all of a set leaves nothing to chance
    mean, deviation = metrics.kid(one, other[None], size=100)
    assert mean == pytest.approx(metrics.kernel_distance(one, other))
    assert deviation == pytest.approx(0, abs=1e-9)


def test_kid_is_unbiased_where_both_sets_are_made_from_the_same_captions() -> None:
    """Captions each used once are no independent samples: comparing a caption with itself would pull below 0."""
    captions = 3 * rng(1).normal(size=(50, 4))
    sets = captions + 0.1 * rng(2).normal(size=(400, 50, 4))
    draws = [metrics.kernel_distance(sets[i], sets[i + 200]) for i in range(200)]
    assert np.mean(draws) == pytest.approx(0, abs=4 * np.std(draws) / np.sqrt(len(draws)))


def test_the_kernel_distance_needs_sets_of_one_shape() -> None:
    with pytest.raises(ValueError, match="the same shape"):
        metrics.kernel_distance(np.zeros((5, 2)), np.zeros((6, 2)))


def test_the_sliced_wasserstein_distance_of_a_shift_and_a_spread_is_the_closed_form() -> None:
    points = rng().normal(size=(4000, 2))
    assert metrics.sliced_wasserstein(points, points[::-1]) == 0
    # mean |cos| over directions, and E|x| for a standard deviation that is 1 apart
    assert metrics.sliced_wasserstein(points, points + np.array([1.0, 0.0])) == pytest.approx(2 / np.pi, abs=0.01)
    assert metrics.sliced_wasserstein(points, 2 * points) == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)


def test_diversity_is_the_mean_distance_within_a_group() -> None:
    groups = np.array([[[0.0, 0], [3, 4], [0, 0]], [[1, 1], [1, 1], [1, 1]]])
    assert metrics.diversity(groups) == pytest.approx((5 + 5 + 0) / 6)
    with pytest.raises(ValueError, match="k ≥ 2"):
        metrics.diversity(groups[:, :1])


def test_pixels_are_seen_between_0_and_1_and_colour_within_alpha() -> None:
    pixels = np.array([2.0, -1.0, 0.5, 0.4]).reshape(1, 4, 1, 1)
    assert metrics.shown(pixels).ravel().tolist() == [0.4, 0, 0.4, 0.4]
    assert metrics.shown(pixels[:, :3]).ravel().tolist() == [1, 0, 0.5]


def test_blur_lowers_sharpness_and_a_ramp_has_none() -> None:
    pixels = rng().random((2, 3, 16, 16))
    blurred = (pixels + np.roll(pixels, 1, axis=3)) / 2
    assert metrics.sharpness(blurred) < 0.8 * metrics.sharpness(pixels)
    ramp = np.broadcast_to(np.linspace(0, 1, 16), (1, 1, 16, 16))
    assert metrics.sharpness(ramp) == pytest.approx(0, abs=1e-12)


def test_pixel_distance_is_a_root_mean_square() -> None:
    zeros = np.zeros((2, 1, 4, 4))
    assert metrics.pixel_distance(zeros, zeros + 0.5) == pytest.approx(0.5)
    assert metrics.pixel_distance(zeros, zeros - 3) == 0


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = Share(81, 263).interval  # Newcombe 1998, table I
    assert (low, high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert Share(0, 20).interval == (0, pytest.approx(0.1611, abs=5e-5))
    assert Share(20, 20).interval[1] == 1
    with pytest.raises(ValueError, match="5 of 4"):
        Share(5, 4)


@pytest.mark.parametrize("values", [np.zeros(5), np.zeros((1, 5))])
def test_features_of_a_wrong_shape_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="n ≥ 2, d"):
        metrics.frechet_distance(values, values)
