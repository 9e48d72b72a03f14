"""How far inpainting is from the true conditional, where both can be computed: on a Gaussian.

The data are a smooth random line, its first half known. The consistency function of a Gaussian is linear, so the
editing loop (`fewstep.editing`) makes a Gaussian of the free half at every number of steps, whose mean and covariance
follow by recursion; the true conditional is a Gaussian too. Between two Gaussians the Wasserstein distance has a
closed form. The same loop is also run with draws, which must agree; starts that are fitted to what is known are only
drawn, since their steps depend on the draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fewstep.core import grids
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.core.randomness import Noise
from fewstep.editing import Constrained, Fitted, Known
from fewstep.samplers.consistency import consistency

WAYS = ((1, 0), (2, 0), (3, 0), (4, 0), (8, 0), (40, 0), (1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1))
"""Steps, and corrections of the noise before each."""
LENGTH = 4.0  # over so many positions the line forgets itself


@dataclass(frozen=True)
class LinearConsistency:
    """The exact consistency function of N(0, Σ) at levels (1, σ): (Σ(Σ + σ²)⁻¹)^½·x.

    Args:
        values, vectors: of Σ, by `numpy.linalg.eigh`.
    """

    values: Any
    vectors: Any
    targets: Targets = Targets.CLEAN
    epsilon: float = 0.0

    def matrix(self, sigma: float) -> Any:
        """What x is multiplied with."""
        return self.vectors @ np.diag(np.sqrt(self.values / (self.values + sigma**2))) @ self.vectors.T

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        return x @ self.matrix(float(at.sigma[0] / at.alpha[0])).T


def gaps(size: int = 16, draws: int = 20_000, seed: int = 0) -> list[dict[str, float | None]]:
    """Distances from the true conditional by number of steps.

    Args:
        size: of the line; the first half is known, drawn from the data.
        draws: of the loop.
        seed: of what is known.

    Returns:
        Rows of `steps`, `fit` (corrections of the noise before each) and `evaluations` of the network; `mean_gap`,
        the root mean square difference of the means over the free positions, by the closed form where there is one,
        and `measured`, by draws; `distance`, the Wasserstein-2 distance a position, and `unconditional`, that of
        drawing the free half as if nothing were known.
    """
    positions = np.arange(max(2, size))
    covariance = np.exp(-(((positions[:, None] - positions) / LENGTH) ** 2)) + 1e-3 * np.eye(len(positions))
    count = len(positions) // 2
    known = np.linalg.cholesky(covariance)[:count] @ np.random.default_rng(seed).standard_normal(len(positions))
    model = LinearConsistency(*np.linalg.eigh(covariance))
    gain = covariance[count:, :count] @ np.linalg.inv(covariance[:count, :count])
    truth = gain @ known, covariance[count:, count:] - gain @ covariance[:count, count:]
    nothing = np.zeros(len(positions) - count), covariance[count:, count:]
    rows = []
    for steps, fit in WAYS:
        levels = grids.karras(steps, 0.02, 80.0)
        drawn = _drawn(model, known, levels, draws, fit)
        measured = drawn.mean(axis=0), np.cov(drawn.T)
        mean, spread = measured if fit else _closed_form(model, known, levels.sigma)
        rows.append(
            {
                "steps": steps,
                "fit": fit,
                "evaluations": steps * (1 + 2 * fit),
                "mean_gap": None if fit else round(_rms(mean - truth[0]), 4),
                "measured": round(_rms(measured[0] - truth[0]), 4),
                "distance": round(_wasserstein(mean, spread, *truth), 4),
                "unconditional": round(_wasserstein(*nothing, *truth), 4),
            }
        )
    return rows


def _closed_form(model: LinearConsistency, known: Any, sigmas: Any) -> tuple[Any, Any]:
    """Mean and covariance of the free half, by recursion."""
    size, count = len(model.values), len(known)
    mean, covariance = np.zeros(size), float(sigmas[0]) ** 2 * np.eye(size)
    for at, following in pairwise(float(sigma) for sigma in sigmas):
        jump = model.matrix(at)
        mean, spread = jump @ mean, jump @ covariance @ jump.T
        mean[:count], spread[:count], spread[:, :count] = known, 0.0, 0.0
        covariance = spread + following**2 * np.eye(size)
    return mean[count:], spread[count:, count:]


def _drawn(model: LinearConsistency, known: Any, levels: Level, draws: int, fit: int) -> Any:
    """The free half of draws [draws, free]."""
    size, count = len(model.values), len(known)
    data = np.concatenate([known, np.zeros(size - count)])[None]
    free = np.concatenate([np.zeros(count), np.ones(size - count)])[None]
    noise = Noise(range(draws), (size,))
    x = noise(0).astype(np.float64) * levels.sigma[0]
    fitted = Fitted(model, Known(data, free), fit)
    *_, last = consistency(Constrained(fitted, fitted.known), x, levels, {}, noise)
    return last.x[:, count:]


def _wasserstein(mean: Any, covariance: Any, other_mean: Any, other: Any) -> float:
    """Wasserstein-2 between two Gaussians, for each number: √(|m − m'|² + tr(S + S' − 2(S'^½ S S'^½)^½))/√n."""
    root = _root(other)
    spread = np.trace(covariance + other - 2 * _root(root @ covariance @ root))
    squared = float(((mean - other_mean) ** 2).sum() + max(0.0, float(spread)))
    return float(np.sqrt(squared / len(mean)))


def _root(matrix: Any) -> Any:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _rms(values: Any) -> float:
    return float(np.sqrt((values**2).mean()))
