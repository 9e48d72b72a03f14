from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fewstep.core.grids import karras
from fewstep.core.levels import Linear, Trig, from_ratio
from fewstep.objectives.times import (
    LogitNormal,
    LogNormal,
    LogStudentT,
    UniformAngle,
    choose,
    lognormal_weights,
    uniform_weights,
)


class NumpyRng:
    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def normal(self, shape):
        return self._rng.standard_normal(shape)

    def uniform(self, shape):
        return self._rng.random(shape)


class TorchRng:
    def __init__(self) -> None:
        self._rng = torch.Generator().manual_seed(0)

    def normal(self, shape):
        return torch.randn(tuple(shape), generator=self._rng, dtype=torch.float64)

    def uniform(self, shape):
        return torch.rand(tuple(shape), generator=self._rng, dtype=torch.float64)


# each density, the variable whose distribution its paper names, and that distribution
THEORY = {
    "edm": (LogNormal(), np.log, stats.norm(-1.2, 1.2)),
    "ect": (LogNormal(-1.1, 2.0), np.log, stats.norm(-1.1, 2.0)),
    "logit_normal": (
        LogitNormal(-0.4, 1.0),
        lambda r: (lambda t: np.log(t / (1 - t)))(Linear().time(from_ratio(r))),
        stats.norm(-0.4, 1.0),
    ),
    "uniform_angle": (UniformAngle(0.5), lambda r: Trig(0.5).time(from_ratio(r)), stats.uniform(0, math.pi / 2)),
    "narrow_angle": (UniformAngle(1.0, 0.2, 1.2), lambda r: Trig(1.0).time(from_ratio(r)), stats.uniform(0.2, 1.0)),
}


@pytest.mark.parametrize("rng", [NumpyRng, TorchRng])
@pytest.mark.parametrize("name", THEORY)
def test_draws_follow_the_papers_density(name: str, rng: type) -> None:
    density, variable, theory = THEORY[name]
    ratios = density.sample(rng(), 20_000)
    assert ratios.shape == (20_000,)
    assert isinstance(ratios, torch.Tensor) == (rng is TorchRng)
    values = np.asarray(ratios)
    assert np.isfinite(values).all()
    assert (values > 0).all()
    # the Kolmogorov–Smirnov distance of 20 000 right draws exceeds 0.0138 once in a thousand
    assert stats.kstest(variable(values), theory.cdf).statistic < 0.0138


def test_a_uniform_angle_is_finite_and_positive_at_the_ends_of_its_source() -> None:
    class Ends:
        def uniform(self, shape):
            return np.array([0.0, np.nextafter(1.0, 0.0)])

    ratios = UniformAngle().sample(Ends(), 2)
    assert np.isfinite(ratios).all()
    assert (ratios > 0).all()


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_choose_inverts_the_cumulative_sum(kind) -> None:
    u = kind([0.0, 0.0999, 0.1, 0.2999, 0.3, 0.9999999])
    index = choose(np.array([1.0, 2.0, 7.0]), u)
    assert np.asarray(index).tolist() == [0, 0, 1, 1, 2, 2]
    assert index.dtype in (np.int64, torch.int64)


def test_choose_never_takes_an_interval_of_no_weight() -> None:
    assert choose(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.4999, 0.5, 0.9999])).tolist() == [1, 1, 3, 3]


def test_choose_takes_each_in_proportion() -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    counts = np.bincount(choose(weights, np.random.default_rng(0).random(40_000)), minlength=4)
    assert stats.chisquare(counts, 40_000 * weights / 10).pvalue > 1e-3


def test_ict_weights_are_the_mass_of_a_log_normal_in_each_interval() -> None:
    """p_i ∝ erf((ln σ_{i+1} − P_mean)/(√2·P_std)) − erf((ln σ_i − P_mean)/(√2·P_std)), P_mean = −1.1, P_std = 2."""
    ratios = karras(20).ratio[:-1][::-1]
    weights = lognormal_weights(ratios)
    mass = np.diff(stats.norm(-1.1, 2.0).cdf(np.log(ratios)))
    assert weights.shape == (19,)
    np.testing.assert_allclose(weights / weights.sum(), mass / mass.sum(), atol=1e-12)
    other = lognormal_weights(ratios, mean=0.3, std=0.5)
    mass = np.diff(stats.norm(0.3, 0.5).cdf(np.log(ratios)))
    np.testing.assert_allclose(other / other.sum(), mass / mass.sum(), atol=1e-12)


def test_uniform_weights_are_equal_one_for_each_interval() -> None:
    assert uniform_weights(np.array([0.1, 1.0, 5.0])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("loc", "scale", "freedom", "high"), [(0.0, 0.2, 0.01, 80.0), (0.5, 1.5, 3.0, 20.0), (1.0, 0.3, 1.0, 80.0)]
)
def test_log_student_t_has_its_shape_between_its_bounds(
    loc: float, scale: float, freedom: float, high: float
) -> None:
    """ln(σ/α) ~ t(freedom)·scale + loc, cut to [ln low, ln high]: scipy's distribution function at any point."""
    density = LogStudentT(loc, scale, freedom, low=1.0, high=high)
    whole = stats.t(freedom, loc, scale)
    low_mass, high_mass = whole.cdf([0.0, math.log(high)])
    drawn = density.sample(NumpyRng(3), 40_000)
    assert drawn.min() >= 1.0
    assert drawn.max() <= high
    assert stats.kstest(np.log(drawn), lambda s: (whole.cdf(s) - low_mass) / (high_mass - low_mass)).pvalue > 1e-3


def test_log_student_t_has_the_papers_settings() -> None:
    assert LogStudentT() == LogStudentT(loc=0.0, scale=0.2, freedom=0.01, low=1.0, high=80.0)
