"""With an exact consistency function the sampler draws from the data's distribution, on every path and at any
number of steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler

from fewstep.core.arrays import Array
from fewstep.core.grids import from_ratios, karras, uniform
from fewstep.core.levels import CLEAN, PURE_NOISE, Level, from_ratio, place
from fewstep.core.parameterisations import Edm, Targets
from fewstep.samplers import consistency
from fewstep.samplers.consistency import renoise
from oracles import Gaussian, Mixture, sampling_floor, sliced_wasserstein
from subjects import PATHS, STEPS, noisiest, normal, tensor

GAUSSIAN = Gaussian(np.array([0.3, -0.7]), np.array([0.5, 1.3]))
MIXTURE = Mixture.ring(tolerance=1e-5)


def _fresh(shape: tuple[int, ...], seed: int = 100):
    return lambda draw: normal(*shape, seed=seed + draw)


def _last(estimator, x: Array, levels: Level, **options) -> Array:
    return list(consistency(estimator, x, levels, {}, _fresh(tuple(x.shape)), **options))[-1].x


def _whitened(size: int, seed: int) -> np.ndarray:
    """Normal numbers [size, 2] of exactly mean 0 and covariance 1."""
    z = normal(size, 2, seed=seed)
    z = z - z.mean(axis=0)
    return z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / size)).T


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", PATHS)
def test_an_exact_consistency_function_gives_the_mixture_back(name: str, steps: int) -> None:
    path, rng, size = PATHS[name], np.random.default_rng(steps), 1000
    x = noisiest(path).batch(size).mix(MIXTURE.sample(rng, size), rng.standard_normal((size, 2)))
    ours = _last(MIXTURE, x, uniform(path, steps))
    assert sliced_wasserstein(ours, MIXTURE.sample(rng, size)) < sampling_floor(MIXTURE, size)


def _moments(path_levels: Level, gamma: float) -> np.ndarray:
    """The standard deviation of the result on `GAUSSIAN`, followed by hand through the linear recursion:

    f = mean + std·z with x = α·mean + m·z, and x' = α'·f + σ'·(√(1 − γ²)·(x − α·f)/σ + γ·fresh).
    """
    s = GAUSSIAN.std
    variance = np.ones(2)  # of z, where x = α·mean + √(α²s² + σ²)·z
    for i in range(len(path_levels) - 1):
        (a, b), (a2, b2) = ((float(lv.alpha), float(lv.sigma)) for lv in (path_levels[i], path_levels[i + 1]))
        spread = np.sqrt(a**2 * s**2 + b**2)
        implied = (spread - a * s) / b  # of z
        kept = (a2 * s + b2 * np.sqrt(1 - gamma**2) * implied) ** 2 * variance
        variance = (kept + (b2 * gamma) ** 2) / (a2**2 * s**2 + b2**2)
    return s * np.sqrt(variance)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", PATHS)
def test_on_a_gaussian_the_moments_are_the_closed_forms(name: str, steps: int, gamma: float) -> None:
    path, size = PATHS[name], 20_000
    levels = uniform(path, steps)
    start = levels[0].batch(size)
    spread = np.sqrt((start.alpha[:, None] * GAUSSIAN.std) ** 2 + start.sigma[:, None] ** 2)
    x = start.alpha[:, None] * GAUSSIAN.mean + spread * _whitened(size, 1)
    noise = {draw: _whitened(size, 50 + draw) for draw in range(1, steps)}
    ours = list(consistency(GAUSSIAN, x, levels, {}, noise.__getitem__, gamma))[-1].x
    np.testing.assert_allclose(ours.mean(axis=0), GAUSSIAN.mean, atol=1e-9)
    np.testing.assert_allclose(ours.std(axis=0), _moments(levels, gamma), rtol=0.03)
    if gamma == 1.0 or steps == 1:
        np.testing.assert_allclose(_moments(levels, gamma), GAUSSIAN.std, rtol=1e-9)


def test_below_gamma_1_the_result_is_too_wide_as_the_docstring_says() -> None:
    levels = uniform(PATHS["linear"], 4)
    assert (_moments(levels, 0.0) > 1.1 * GAUSSIAN.std).all()
    assert (_moments(levels, 0.5) > 1.02 * GAUSSIAN.std).all()


@dataclass(frozen=True)
class Pinned:
    """The exact function to the boundary σ/α = ε, at the data's scale: what a model pinned there learns."""

    epsilon: float
    targets: Targets = Targets.CLEAN

    def __call__(self, x: Array, at: Level, to: Level, cond: object) -> Array:
        return GAUSSIAN.flow(x, at, from_ratio(self.epsilon).batch(len(x)))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["ve", "linear", "trig"])
def test_a_pinned_model_gives_data_with_its_boundarys_noise_at_any_number_of_steps(name: str, steps: int) -> None:
    """ε = 0.4 is large on purpose: √(σ² − (αε)²) must leave out what the estimate already holds."""
    size, levels = 20_000, place(from_ratios(np.geomspace(50.0, 0.8, steps)), PATHS[name])
    x = levels[0].batch(size).mix(GAUSSIAN.mean + GAUSSIAN.std * _whitened(size, 1), _whitened(size, 2))
    noise = {draw: _whitened(size, 50 + draw) for draw in range(1, steps)}
    ours = list(consistency(Pinned(0.4), x, levels, {}, noise.__getitem__))[-1].x
    np.testing.assert_allclose(ours.std(axis=0), np.sqrt(GAUSSIAN.std**2 + 0.4**2), rtol=0.03)


def test_draws_are_numbered_from_1_and_none_is_taken_at_the_end() -> None:
    drawn: list[int] = []

    def noise(draw: int) -> np.ndarray:
        drawn.append(draw)
        return np.zeros((2, 2))

    list(consistency(GAUSSIAN, normal(2, 2), uniform(PATHS["trig"], 4), {}, noise))
    assert drawn == [1, 2, 3]
    drawn.clear()
    list(consistency(GAUSSIAN, normal(2, 2), uniform(PATHS["trig"], 4), {}, noise, gamma=0.0))
    assert drawn == []


@pytest.mark.parametrize("gamma", [-0.1, 1.1])
def test_gamma_is_a_share(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma must be between 0 and 1, got {gamma}"):
        list(consistency(GAUSSIAN, normal(2, 2), uniform(PATHS["trig"], 1), {}, _fresh((2, 2)), gamma=gamma))


def test_renoising_is_its_formula() -> None:
    x, d, z = normal(3, 2), normal(3, 2, seed=1), normal(3, 2, seed=2)
    at, to = Level(0.6, 0.8).batch(3), Level(0.8, np.array([0.5, 0.1, 0.0]))
    s = np.sqrt(np.array([0.25 - 0.16**2, 0.0, 0.0]))[:, None]  # ε = 0.2: 0.1 and 0 are below the boundary
    out = renoise(x, at, to, d, lambda draw: z * (draw == 3), 3, gamma=0.6, epsilon=0.2)
    np.testing.assert_allclose(out, 0.8 * d + s * (0.8 * (x - 0.6 * d) / 0.8 + 0.6 * z))
    np.testing.assert_array_equal(renoise(x, at, CLEAN.batch(3), d, lambda draw: z, 1), d)


def test_renoising_keeps_the_precision_of_x() -> None:
    x = torch.zeros(2, 3, dtype=torch.float16)
    out = renoise(x, PURE_NOISE.batch(2), Level(0.6, 0.8).batch(2), x, lambda draw: torch.ones(2, 3), 1)
    assert out.dtype == torch.float16
    out = renoise(x, PURE_NOISE.batch(2), Level(0.6, 0.8).batch(2), x, lambda draw: np.ones((2, 3), np.float32), 1)
    assert isinstance(out, torch.Tensor)


def test_sampling_equals_diffusers_consistency_scheduler() -> None:
    """Their step with our ε = 0.002 and their own noise, drawn again from the same generator."""
    theirs = CMStochasticIterativeScheduler(num_train_timesteps=40, clip_denoised=False)
    theirs.set_timesteps(4)
    sigmas = theirs.sigmas[:-1].double().numpy()
    x = tensor(80 * normal(2, 3, 4, 4), dtype=torch.float32)
    outputs = [tensor(normal(2, 3, 4, 4, seed=i), dtype=torch.float32) for i in range(len(sigmas))]
    draws = [torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in range(len(sigmas))]

    calls = iter(range(len(sigmas)))

    @dataclass(frozen=True)
    class Network:
        targets: Targets = Targets.CLEAN
        epsilon: float = 0.002

        def __call__(self, x: Array, at: Level, to: Level, cond: object) -> Array:
            return Edm(epsilon=0.002).estimate(x, outputs[next(calls)], at)

    levels = from_ratios(sigmas)
    ours = consistency(Network(), x, levels, {}, lambda draw: draws[draw - 1])
    state = x
    for i, jump in enumerate(ours):
        t = theirs.timesteps[i]
        theirs.scale_model_input(state, t)
        state = theirs.step(outputs[i], t, state, generator=torch.Generator().manual_seed(i)).prev_sample
        if i < len(sigmas) - 1:  # they also add noise down to σmin after the last step; there is none to add
            np.testing.assert_allclose(jump.x, state, rtol=1e-4, atol=1e-5)
    assert float(karras(4).ratio[0]) == pytest.approx(sigmas[0])
