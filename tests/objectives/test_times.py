from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fewstep.core.grids import karras
from fewstep.core.levels import Linear, Trig, from_ratio
from fewstep.objectives.times import (
    Halves,
    LogitNormal,
    LogNormal,
    LogStudentT,
    TwoTimes,
    UniformAngle,
    UniformKarras,
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


def test_karras_levels_are_even_in_the_seventh_root() -> None:
    roots = UniformKarras(0.01, 50.0).sample(NumpyRng(), 20_000) ** (1 / 7)
    low, high = 0.01 ** (1 / 7), 50.0 ** (1 / 7)
    assert stats.kstest(roots, stats.uniform(low, high - low).cdf).statistic < 0.0138


@pytest.mark.parametrize("apart", [0.0, 0.25, 1.0])
def test_two_times_are_the_later_and_the_earlier_of_two_draws_for_a_share_of_the_pairs(apart: float) -> None:
    """MeanFlow (2505.13447 §4.3): t = max, r = min of two draws; r = t for the others."""
    t, r = TwoTimes(LogitNormal(-0.4, 1.0), apart).sample(NumpyRng(), 20_000)
    assert ((r > 0) & (r <= t) & (t < 1)).all()
    assert (r < t).mean() == pytest.approx(apart, abs=0.01)
    one = stats.norm(-0.4, 1.0)
    assert stats.kstest(np.log(t / (1 - t)), lambda x: one.cdf(x) ** 2).statistic < 0.0138


def test_flow_maps_learn_at_the_papers_times_if_not_told() -> None:
    """MeanFlow on ImageNet: logit-normal (−0.4, 1), a quarter apart; shortcut models: 128 steps, a quarter apart."""
    assert TwoTimes() == TwoTimes(LogitNormal(mean=-0.4, std=1.0), apart=0.25)
    assert Halves() == Halves(finest=128, apart=0.25)


@pytest.mark.parametrize("finest", [2, 8])
def test_halves_are_steps_of_every_length_and_denoisers_at_the_finest_times(finest: int) -> None:
    """Shortcut models (2410.12557 §3.2): steps of 1, 1/2 … 2/M, as likely each, from the times that they divide
    [0, 1] into; each is learned from two of half its length, so that the shortest is 2/M."""
    t, r = Halves(finest, apart=0.5).sample(NumpyRng(), 20_000)
    apart = r < t
    assert apart.mean() == pytest.approx(0.5, abs=0.015)
    parts, counts = np.unique(1 / (t - r)[apart], return_counts=True)
    assert parts.tolist() == [2.0**k for k in range(round(math.log2(finest)))]
    np.testing.assert_allclose(counts / counts.sum(), 1 / len(parts), atol=0.02)
    for length in parts:
        begins = np.unique(t[apart & (t - r == 1 / length)])
        np.testing.assert_allclose(begins, np.arange(1, length + 1) / length)
    np.testing.assert_allclose(np.unique(t[~apart]), np.arange(1, finest + 1) / finest)


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
