"""The editing loop against its own closed form on a correlated Gaussian, where one number is known and one is not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fewstep.core import grids
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.core.randomness import Noise
from fewstep.editing import Constrained, Known
from fewstep.samplers import SAMPLERS

SIZE = 20_000
KNOWN = 1.0
CORRELATION = 0.8
COVARIANCE = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
VALUES, VECTORS = np.linalg.eigh(COVARIANCE)
FREE = np.array([[0.0, 1.0]])


def between(sigma: float, power: float) -> Any:
    """(Σ(Σ + σ²)⁻¹)^power: the exact denoiser for power 1, the exact consistency function for ½."""
    return VECTORS @ np.diag((VALUES / (VALUES + sigma**2)) ** power) @ VECTORS.T


@dataclass(frozen=True)
class Correlated:
    """The exact denoiser (SAME) or consistency function (CLEAN) of that Gaussian, at levels (1, σ)."""

    targets: Targets
    epsilon: float = 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        power = 1.0 if self.targets is Targets.SAME else 0.5
        return x @ between(float(at.sigma[0] / at.alpha[0]), power).T


def edited(sampler: str, targets: Targets, steps: int) -> Any:
    """What the loop makes of the free number: [SIZE]."""
    estimator = Constrained(Correlated(targets), Known(np.array([[KNOWN, 0.0]]), FREE))
    noise = Noise(range(SIZE), (2,))
    levels = grids.karras(steps, 0.05, 80.0)
    extra = {"noise": noise} if sampler == "consistency" else {}
    *_, last = SAMPLERS[sampler].run(estimator, noise(0).astype(np.float64) * levels.sigma[0], levels, {}, **extra)
    assert np.array_equal(last.x[:, 0], np.full(SIZE, KNOWN))
    return last.x[:, 1]


def closed_form(steps: int) -> tuple[float, float]:
    """The mean and variance of the free number after `steps` of the consistency loop, by recursion."""
    sigmas = grids.karras(steps, 0.05, 80.0).sigma
    mean, covariance = np.zeros(2), sigmas[0] ** 2 * np.eye(2)
    for at, following in pairwise(sigmas):
        jump = between(float(at), 0.5)
        mean, spread = jump @ mean, (jump @ covariance @ jump.T)[1, 1]
        mean[0], covariance = KNOWN, np.diag([0.0, spread]) + following**2 * np.eye(2)
    return float(mean[1]), float(spread)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_consistency_loop_is_its_closed_form(steps: int) -> None:
    mean, variance = closed_form(steps)
    free = edited("consistency", Targets.CLEAN, steps)
    assert free.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / SIZE))
    assert free.var() == pytest.approx(variance, rel=0.05)


def test_more_steps_come_nearer_to_the_conditional_and_few_are_far_from_it() -> None:
    gaps = [abs(closed_form(steps)[0] - CORRELATION * KNOWN) for steps in (1, 2, 4, 8, 40, 1000)]
    assert gaps[0] == pytest.approx(CORRELATION * KNOWN)  # one jump from pure noise never looks at what is known
    assert all(later < earlier for earlier, later in pairwise(gaps))
    assert gaps[2] > 0.3
    assert gaps[-1] < 0.05


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_a_diffusion_model_edits_through_the_same_constraint(sampler: str) -> None:
    free = edited(sampler, Targets.SAME, 18)
    assert abs(free.mean() - CORRELATION * KNOWN) < abs(0.0 - CORRELATION * KNOWN)


def test_where_all_is_free_nothing_changes() -> None:
    x = np.ones((3, 2))
    level = Level(np.ones(3), np.ones(3))
    plain = Correlated(Targets.CLEAN)
    constrained = Constrained(plain, Known(np.full((1, 2), 9.0), np.ones((1, 2))))
    assert np.array_equal(constrained(x, level, level, {}), plain(x, level, level, {}))
