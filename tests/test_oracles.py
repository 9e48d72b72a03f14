"""The oracles themselves: on every path they obey the probability-flow ODE in the path's own time, and
dy/dκ = D with y = x/σ and κ = α/σ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fewstep.core.jump import jump
from fewstep.core.levels import CLEAN, PURE_NOISE, Level, Path
from oracles import Constant, Gaussian, Mixture, consistency_function, sampling_floor, sliced_wasserstein
from subjects import PATHS, normal, tensor

GAUSSIAN = Gaussian(np.array([0.3, -0.7]), np.array([0.5, 1.3]))
MIXTURE = Mixture.ring()
ORACLES = {"gaussian": GAUSSIAN, "mixture": MIXTURE}


def _trajectory(path: Path, oracle: Gaussian | Mixture, x: np.ndarray, start: float, stop: float):
    """Solve dx/dt = α'·D + σ'·(x − α·D)/σ in the path's own time: the textbook's form, not the library's."""

    def derivative(t: float) -> tuple[float, float]:
        h = 1e-6 * abs(stop - start)
        above, below = path.level(np.float64(t + h)), path.level(np.float64(t - h))
        return float(above.alpha - below.alpha) / (2 * h), float(above.sigma - below.sigma) / (2 * h)

    def rate(t: float, flat: np.ndarray) -> np.ndarray:
        y, level = flat.reshape(x.shape), path.level(np.float64(t))
        data = oracle.denoise(y, level.batch(len(y)))
        d_alpha, d_sigma = derivative(t)
        return (d_alpha * data + d_sigma * (y - level.alpha * data) / level.sigma).ravel()

    # a table's log-SNR has a kink at each integer: no step may hide them
    longest = 1.0 if abs(stop - start) > 2 and hasattr(path, "betas") else np.inf
    return solve_ivp(
        rate, (start, stop), x.ravel(), "RK45", rtol=1e-7, atol=1e-8, dense_output=True, max_step=longest
    )


def _middle(path: Path) -> tuple[float, float]:
    """A stretch of the path's time around σ/α from about 2 to about 0.4."""
    noisy, less = (float(path.time(Level(1.0, ratio))) for ratio in (2.0, 0.4))
    return noisy, less


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("kind", ORACLES)
def test_flow_is_the_probability_flow_in_the_paths_own_time(name: str, kind: str) -> None:
    path, oracle = PATHS[name], ORACLES[kind]
    start, stop = _middle(path)
    at, to = path.level(np.float64(start)).batch(6), path.level(np.float64(stop)).batch(6)
    x = at.mix(oracle.sample(np.random.default_rng(1), (6, 2) if kind == "gaussian" else 6), normal(6, 2))
    end = _trajectory(path, oracle, x, start, stop).y[:, -1].reshape(x.shape)
    np.testing.assert_allclose(oracle.flow(x, at, to), end, atol=5e-4)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("kind", ORACLES)
def test_dy_by_dkappa_is_the_denoiser(name: str, kind: str) -> None:
    path, oracle = PATHS[name], ORACLES[kind]
    start, stop = _middle(path)
    at = path.level(np.float64(start)).batch(6)
    x = at.mix(normal(6, 2, seed=1), normal(6, 2))
    solution = _trajectory(path, oracle, x, start, stop)
    for t in np.linspace(start, stop, 5)[1:-1]:
        h = 1e-3 * (stop - start)
        levels = [path.level(np.float64(u)).batch(6) for u in (t - h, t, t + h)]
        before, here, after = (solution.sol(u).reshape(x.shape) for u in (t - h, t, t + h))
        rise = after / levels[2].sigma[:, None] - before / levels[0].sigma[:, None]
        slope = rise / (levels[2].clock - levels[0].clock)[:, None]
        np.testing.assert_allclose(slope, oracle.denoise(here, levels[1]), atol=2e-3)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("kind", ORACLES)
def test_two_level_estimate_is_the_average_of_the_denoiser_over_kappa(name: str, kind: str) -> None:
    path, oracle = PATHS[name], ORACLES[kind]
    start, stop = _middle(path)
    at, to = path.level(np.float64(start)).batch(4), path.level(np.float64(stop)).batch(4)
    x = at.mix(normal(4, 2, seed=1), normal(4, 2))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    kappas = at.clock[0] + (to.clock[0] - at.clock[0]) * (nodes + 1) / 2
    average = sum(
        w / 2 * oracle.denoise(oracle.flow(x, at, level), level)
        for w, level in ((w, Level(k, 1.0).batch(4)) for w, k in zip(weights, kappas, strict=True))
    )
    np.testing.assert_allclose(oracle(x, at, to), average, atol=1e-6)


@pytest.mark.parametrize("kind", ORACLES)
def test_denoiser_is_the_posterior_mean(kind: str) -> None:
    """Against plain importance sampling: E[data | x] = Σ data·p(x | data)/Σ p(x | data)."""
    oracle = ORACLES[kind]
    data = oracle.sample(np.random.default_rng(0), (400_000, 2) if kind == "gaussian" else 400_000)
    level, x = Level(0.6, 0.5).batch(1), np.array([[0.2, 0.3]])
    logit = -0.5 * np.sum((x - 0.6 * data) ** 2, axis=1) / 0.25
    weights = np.exp(logit - logit.max())
    np.testing.assert_allclose(oracle.denoise(x, level)[0], weights @ data / weights.sum(), atol=0.01)


@pytest.mark.parametrize("kind", ORACLES)
def test_the_estimate_at_equal_levels_is_the_denoiser_and_near_levels_tend_to_it(kind: str) -> None:
    oracle, x, at = ORACLES[kind], normal(5, 2), Level(0.7, 0.4).batch(5)
    np.testing.assert_array_equal(oracle(x, at, Level(0.7, 0.4).batch(5)), oracle.denoise(x, at))
    np.testing.assert_allclose(oracle(x, at, Level(0.7, 0.3999).batch(5)), oracle.denoise(x, at), atol=1e-3)


@pytest.mark.parametrize("kind", ORACLES)
def test_oracles_are_finite_at_both_ends_and_alike_in_numpy_and_torch(kind: str) -> None:
    oracle, x = ORACLES[kind], normal(4, 2)
    at = Level(np.array([0.0, 0.5, 1.0, 1.0]), np.array([1.0, 0.5, 0.2, 0.0]))
    for to in (at, CLEAN.batch(4)):
        values = oracle(x, at, to)
        assert np.isfinite(values).all()
        np.testing.assert_allclose(oracle(tensor(x), at, to).numpy(), values, atol=1e-12)
        np.testing.assert_allclose(values[3], x[3], atol=1e-12)  # clean data is its own estimate
    single = oracle(tensor(x, dtype=torch.float32), at, at)
    assert single.dtype == torch.float32


def test_pure_noise_denoises_to_the_mean() -> None:
    x = normal(3, 2)
    np.testing.assert_allclose(GAUSSIAN.denoise(x, PURE_NOISE.batch(3)), np.tile(GAUSSIAN.mean, (3, 1)))
    weights = MIXTURE.weights / MIXTURE.weights.sum()
    np.testing.assert_allclose(MIXTURE.denoise(x, PURE_NOISE.batch(3)), np.tile(weights @ MIXTURE.means, (3, 1)))


@pytest.mark.parametrize("name", PATHS)
def test_consistency_function_carries_noise_to_the_data(name: str) -> None:
    path, rng = PATHS[name], np.random.default_rng(3)
    at = path.level(np.float64(path.noisiest)).batch(1000)
    ours = consistency_function(MIXTURE, at.mix(MIXTURE.sample(rng, 1000), rng.standard_normal((1000, 2))), at)
    assert sliced_wasserstein(ours, MIXTURE.sample(rng, 1000)) < sampling_floor(MIXTURE, 1000)


def test_sliced_wasserstein_sees_a_shift_and_a_spread() -> None:
    points = normal(500, 2)
    assert sliced_wasserstein(points, points) == 0
    assert sliced_wasserstein(points, points + np.array([1.0, 0.0])) == pytest.approx(2 / np.pi, abs=0.01)
    assert sliced_wasserstein(points, 2 * points) == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)


def test_a_constant_estimate_is_constant() -> None:
    at = PURE_NOISE.batch(2)
    estimate = Constant([0.5, -0.5])(normal(2, 2), at, CLEAN.batch(2))
    np.testing.assert_array_equal(jump(normal(2, 2), at, CLEAN.batch(2), estimate), [[0.5, -0.5]] * 2)
