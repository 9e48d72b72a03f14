"""With an exact flow map every number of steps and every share of fresh noise keeps the data's distribution."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.core.grids import from_ratios, uniform
from fewstep.core.levels import CLEAN, Trig
from fewstep.samplers import flow_map
from oracles import Gaussian, Mixture
from subjects import PATHS, noisiest, normal

GAUSSIAN = Gaussian(np.array([0.3, -0.7]), np.array([0.5, 1.3]))


def fresh(draw: int) -> np.ndarray:
    return normal(4000, 2, seed=100 + draw)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("path", PATHS)
def test_without_fresh_noise_it_follows_the_flow(path: str, steps: int) -> None:
    mixture = Mixture.ring()
    at = noisiest(PATHS[path]).batch(16)
    x = at.mix(0.5 * normal(16, 2, seed=1), normal(16, 2))
    *_, last = flow_map(mixture, x, uniform(PATHS[path], steps), {}, fresh)
    np.testing.assert_allclose(last.x, mixture.flow(x, at, CLEAN.batch(16)), atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_every_share_of_fresh_noise_keeps_mean_and_deviation(steps: int, gamma: float) -> None:
    z = normal(4000, 2)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    *_, last = flow_map(GAUSSIAN, z, uniform(Trig(1.0), steps), {}, fresh, gamma)
    np.testing.assert_allclose(last.x.mean(axis=0), GAUSSIAN.mean, atol=0.08)
    np.testing.assert_allclose(last.x.std(axis=0), GAUSSIAN.std, rtol=0.06)


def test_gamma_must_be_a_share() -> None:
    with pytest.raises(ValueError, match="gamma must be between 0 and 1"):
        list(flow_map(GAUSSIAN, normal(2, 2), from_ratios([80.0, 1.0]), {}, fresh, 1.5))


def test_fresh_noise_is_needed_only_where_some_is_asked_for() -> None:
    levels, x = from_ratios([80.0, 1.0]), normal(2, 2)
    *_, alone = flow_map(GAUSSIAN, x, levels, {})
    *_, given = flow_map(GAUSSIAN, x, levels, {}, fresh)
    np.testing.assert_array_equal(alone.x, given.x)
    with pytest.raises(ValueError, match="gamma above 0 needs fresh noise"):
        next(flow_map(GAUSSIAN, x, levels, {}, gamma=0.5))


@pytest.mark.parametrize(("gamma", "draws"), [(0.0, []), (0.5, [1, 2, 3]), (1.0, [1, 2, 3])])
def test_draws_are_numbered_from_1_and_none_is_taken_at_the_end(gamma: float, draws: list[int]) -> None:
    """Draw 0 is the start: renewed by itself, the noise would be no fresh one."""
    drawn: list[int] = []

    def noise(draw: int) -> np.ndarray:
        drawn.append(draw)
        return np.zeros((2, 2))

    list(flow_map(GAUSSIAN, normal(2, 2), uniform(Trig(1.0), 4), {}, noise, gamma))
    assert drawn == draws
