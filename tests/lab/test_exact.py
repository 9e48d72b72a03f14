"""The library's exact estimator against the tests' own oracle, which shares no code with it."""

from __future__ import annotations

import numpy as np
import pytest

import oracles
from fewstep.core.levels import CLEAN, PURE_NOISE, Level
from fewstep.core.parameterisations import Targets
from fewstep.data.toys import Mixture, ring
from fewstep.lab.exact import Exact
from subjects import normal

MIXTURES = {"ring": ring(), "uneven": Mixture([1, 2, 5], [[0, 0], [3, 1], [-1, 4]], [0.1, 0.5, 1.0])}
LEVELS = {"pure noise": PURE_NOISE, "VE": Level(1.0, 0.3), "between": Level(0.3, 0.7), "clean": CLEAN}


def oracle(mixture: Mixture) -> oracles.Mixture:
    return oracles.Mixture(mixture.weights, mixture.means, mixture.stds)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", MIXTURES)
def test_the_denoiser_of_a_mixture_is_the_oracles(name: str, level: str) -> None:
    x, at = normal(20, 2), LEVELS[level]
    expected = oracle(MIXTURES[name]).denoise(x, at.batch(20))
    np.testing.assert_allclose(MIXTURES[name].denoise(x, at), expected, atol=1e-12)
    np.testing.assert_allclose(MIXTURES[name].denoise(x, at.batch(20)), expected, atol=1e-12)


@pytest.mark.parametrize("end", ["between", "VE", "clean"])
@pytest.mark.parametrize("name", MIXTURES)
def test_the_two_level_estimate_is_the_oracles(name: str, end: str) -> None:
    at, to = Level(0.2, 0.9).batch(8), LEVELS[end].batch(8)
    x = at.mix(MIXTURES[name].sample(8, np.random.default_rng(0)), normal(8, 2))
    np.testing.assert_allclose(Exact(MIXTURES[name])(x, at, to, {}), oracle(MIXTURES[name])(x, at, to), atol=2e-3)


def test_a_denoiser_does_not_look_at_the_jumps_end() -> None:
    x, at = normal(4, 2), Level(0.5, 0.5)
    denoiser = Exact(ring(), targets=Targets.SAME)
    np.testing.assert_array_equal(denoiser(x, at, CLEAN, {}), ring().denoise(x, at))
