"""How far edits are from the true conditional, where both can be computed: on a Gaussian.

The data are a smooth random line. Known are its first half (inpainting), the means of blocks (super-resolution), or,
of three lines as colours, their grey (colourisation). The consistency function of a Gaussian is linear, so the
editing loop (`fewstep.editing`) makes a Gaussian of what is free at every number of steps, whose mean and covariance
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
from fewstep.editing import Constrained, Fitted, Projected
from fewstep.editing.projections import LUMA
from fewstep.lab.restoration import Restoration
from fewstep.samplers.consistency import consistency

SETTINGS = ((1, 0), (2, 0), (3, 0), (4, 0), (8, 0), (40, 0), (1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1))
"""Steps, and corrections of the noise before each."""
LENGTH = 4.0  # over so many positions the line forgets itself
BLOCK = 4  # positions of which super-resolution knows the mean
ALIKE = 0.8  # the correlation of two colours at one position


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


def gaps(
    size: int = 16, draws: int = 20_000, seed: int = 0, edit: Restoration = "inpaint"
) -> list[dict[str, float | None]]:
    """Distances from the true conditional by number of steps.

    Args:
        size: of the line, rounded down to whole blocks for super-resolve.
        draws: of the loop.
        seed: of what is known, which is drawn from the data.
        edit: what is known.

    Returns:
        Rows of `steps`, `fit` (corrections of the noise before each) and `evaluations` of the network; `mean_gap`,
        the root mean square difference of the means over the free numbers, by the closed form where there is one,
        and `measured`, by draws; `distance`, the Wasserstein-2 distance for each free number, and `unconditional`,
        that of drawing as if nothing were known.
    """
    covariance, rows = _problem(edit, size)
    data = np.linalg.cholesky(covariance) @ np.random.default_rng(seed).standard_normal(len(covariance))
    known = rows.T @ (rows @ data)
    free = np.linalg.svd(rows)[2][len(rows) :]
    model = LinearConsistency(*np.linalg.eigh(covariance))
    gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T)
    truth = free @ gain @ rows @ known, free @ (covariance - gain @ rows @ covariance) @ free.T
    nothing = np.zeros(len(free)), free @ covariance @ free.T
    table = []
    for steps, fit in SETTINGS:
        levels = grids.karras(steps, 0.02, 80.0)
        drawn = _drawn(model, known, rows, levels, draws, fit) @ free.T
        measured = drawn.mean(axis=0), np.cov(drawn.T)
        closed = _closed_form(model, known, rows, levels.sigma)
        mean, spread = measured if fit else (free @ closed[0], free @ closed[1] @ free.T)
        table.append(
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
    return table


def _problem(edit: Restoration, size: int) -> tuple[Any, Any]:
    """The covariance of the data [n, n], and orthonormal rows [m, n] of what is measured."""
    length = max(2, size) if edit != "super-resolve" else max(1, size // BLOCK) * BLOCK
    positions = np.arange(length)
    line = np.exp(-(((positions[:, None] - positions) / LENGTH) ** 2)) + 1e-3 * np.eye(length)
    if edit == "inpaint":
        return line, np.eye(length)[: length // 2]
    if edit == "super-resolve":
        return line, np.kron(np.eye(length // BLOCK), np.full((1, BLOCK), BLOCK**-0.5))
    colours = ALIKE + (1 - ALIKE) * np.eye(len(LUMA))
    return np.kron(colours, line), np.kron(np.array([LUMA]) / np.linalg.norm(LUMA), np.eye(length))


def _closed_form(model: LinearConsistency, known: Any, rows: Any, sigmas: Any) -> tuple[Any, Any]:
    """Mean and covariance of the data after the loop, by recursion."""
    size = len(model.values)
    others = np.eye(size) - rows.T @ rows
    mean, covariance = np.zeros(size), float(sigmas[0]) ** 2 * np.eye(size)
    for at, following in pairwise(float(sigma) for sigma in sigmas):
        jump = others @ model.matrix(at)
        mean, spread = known + jump @ mean, jump @ covariance @ jump.T
        covariance = spread + following**2 * np.eye(size)
    return mean, spread


def _drawn(model: LinearConsistency, known: Any, rows: Any, levels: Level, draws: int, fit: int) -> Any:
    """Draws of the loop [draws, n]."""
    noise = Noise(range(draws), known.shape)
    x = np.asarray(noise(0), dtype=np.float64) * float(levels.sigma[0])
    fitted = Fitted(model, Projected(known[None], lambda values: values @ rows.T @ rows), fit)
    *_, last = consistency(Constrained(fitted, fitted.known), x, levels, {}, noise)
    return last.x


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
