"""How far edits are from the true conditional distribution where both can be computed: for Gaussian data.

The data are a smooth random line. What is known is its first half (inpainting), the means of blocks
(super-resolution), or the grey of three lines taken as colours (colourisation). The consistency function of a
Gaussian is linear, so for any number of steps the output of the editing loop (`fewstep.editing`) is Gaussian, with a
mean and covariance that follow by recursion; the true conditional is Gaussian too. The Wasserstein distance between
two Gaussians has a closed form. The loop is also run on random draws, which must agree; fitted starts are only
measured on draws, since their steps depend on the draw.
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
LENGTH = 4.0  # correlation length of the line, in positions
BLOCK = 4  # positions per block in super-resolution
ALIKE = 0.8  # correlation of two colours at one position


@dataclass(frozen=True)
class LinearConsistency:
    """The exact consistency function of N(0, Σ) at levels (1, σ): (Σ(Σ + σ²)⁻¹)^½·x.

    Args:
        values, vectors: eigenvalues and eigenvectors of Σ, from `numpy.linalg.eigh`.
    """

    values: Any
    vectors: Any
    targets: Targets = Targets.CLEAN
    epsilon: float = 0.0

    def matrix(self, sigma: float) -> Any:
        """The matrix that x is multiplied by."""
        return self.vectors @ np.diag(np.sqrt(self.values / (self.values + sigma**2))) @ self.vectors.T

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        return x @ self.matrix(float(at.sigma[0] / at.alpha[0])).T


def gaps(
    size: int = 16, draws: int = 20_000, seed: int = 0, edit: Restoration = "inpaint"
) -> list[dict[str, float | None]]:
    """Distances from the true conditional by number of steps.

    Args:
        size: length of the line, rounded down to whole blocks for super-resolve.
        draws: number of draws from the loop.
        seed: seed of the known values, which are drawn from the data.
        edit: which edit, and so what is known.

    Returns:
        Rows with `steps`, `fit` (noise corrections before each step) and network `evaluations`; `mean_gap`, the root
        mean square difference of the means over the free values, in closed form where there is one, and `measured`,
        the same from draws; `distance`, the Wasserstein-2 distance per free value, and `unconditional`, the distance
        of draws that ignore what is known.
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
    """The covariance of the data [n, n], and the orthonormal rows [m, n] of the measurement."""
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
    """Mean and covariance of the loop's output, by recursion."""
    size = len(model.values)
    others = np.eye(size) - rows.T @ rows
    mean, covariance = np.zeros(size), float(sigmas[0]) ** 2 * np.eye(size)
    for at, following in pairwise(float(sigma) for sigma in sigmas):
        jump = others @ model.matrix(at)
        mean, spread = known + jump @ mean, jump @ covariance @ jump.T
        covariance = spread + following**2 * np.eye(size)
    return mean, spread


def _drawn(model: LinearConsistency, known: Any, rows: Any, levels: Level, draws: int, fit: int) -> Any:
    """Draws from the loop [draws, n]."""
    noise = Noise(range(draws), known.shape)
    x = np.asarray(noise(0), dtype=np.float64) * float(levels.sigma[0])
    fitted = Fitted(model, Projected(known[None], lambda values: values @ rows.T @ rows), fit)
    *_, last = consistency(Constrained(fitted, fitted.known), x, levels, {}, noise)
    return last.x


def _wasserstein(mean: Any, covariance: Any, other_mean: Any, other: Any) -> float:
    """Wasserstein-2 distance between two Gaussians, per value: √(|m − m'|² + tr(S + S' − 2(S'^½ S S'^½)^½))/√n."""
    root = _root(other)
    spread = np.trace(covariance + other - 2 * _root(root @ covariance @ root))
    squared = float(((mean - other_mean) ** 2).sum() + max(0.0, float(spread)))
    return float(np.sqrt(squared / len(mean)))


def _root(matrix: Any) -> Any:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _rms(values: Any) -> float:
    return float(np.sqrt((values**2).mean()))
