"""Metrics in NumPy: Fréchet distance (1706.08500), KID (1801.01401), sliced Wasserstein distance, diversity,
sharpness, pixel distance, and shares with Wilson intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Share:
    """A share of successful trials, with its Wilson 95 % interval.

    Args:
        right: number of successes.
        total: number of trials, at least 1.
    """

    right: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.total or self.total < 1:
            raise ValueError(f"a share needs 0 ≤ right ≤ total and total ≥ 1, got {self.right} of {self.total}")

    @property
    def value(self) -> float:
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the true share (Wilson 1927)."""
        z, n = 1.959963984540054, self.total
        middle = (self.value + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.value * (1 - self.value) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


def frechet_distance(one: Numbers, other: Numbers) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½) between Gaussians fitted to two sets of features [n, d].

    The trace of the root is computed as that of the symmetric (Σ₁^½ Σ₂ Σ₁^½)^½ by eigendecomposition, which stays
    real and stable when there are fewer samples than dimensions and Σ is singular.
    """
    (mean1, cov1), (mean2, cov2) = _moments(one), _moments(other)
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    distance = float(((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross)
    return max(distance, 0.0)


def _moments(features: Numbers) -> tuple[Numbers, Numbers]:
    values = _features(features)
    return values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False))


def _features(values: Numbers) -> Numbers:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(f"features must be [n ≥ 2, d], got {array.shape}")
    return array


def kernel_distance(one: Numbers, other: Numbers) -> float:
    """The unbiased squared MMD (Gretton et al. 2012, eq. 4) with the kernel (x·y/d + 1)³; it may be negative.

    Both sets of features are [n, d]. Row i of one is never compared with row i of the other, just as no row is
    compared with itself, so the estimate stays unbiased if rows i of both come from the same caption.
    """
    x, y = _features(one), _features(other)
    if x.shape != y.shape:
        raise ValueError(f"both sets of features must have the same shape, got {x.shape} and {y.shape}")
    between = _kernel(x, y)
    compared = _kernel(x, x) + _kernel(y, y) - between - between.T
    n = len(x)
    return float((compared.sum() - np.trace(compared)) / (n * (n - 1)))


def _kernel(x: Numbers, y: Numbers) -> Numbers:
    kernel: Numbers = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def kid(
    features: Numbers, references: Numbers, subsets: int = 50, size: int = 100, seed: int = 0
) -> tuple[float, float]:
    """KID: mean and standard deviation of `kernel_distance` over random subsets.

    Args:
        features: [n, d].
        references: [r, n, d], features of r sets of real pictures of the same captions in the same order.
        subsets: number of subsets; each uses one of the references.
        size: largest size of a subset.
        seed: seed of the choice of subsets.
    """
    x, sets = _features(features), np.asarray(references, dtype=np.float64)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = []
    for _ in range(subsets):
        rows = rng.choice(len(x), min(size, len(x)), replace=False)
        drawn.append(kernel_distance(x[rows], sets[rng.integers(len(sets))][rows]))
    return float(np.mean(drawn)), float(np.std(drawn))


def sliced_wasserstein(one: Numbers, other: Numbers) -> float:
    """The mean 1-Wasserstein distance between two equally large sets of points [n, 2] over directions of a half
    circle."""
    return float(np.abs(projected(one) - projected(other)).mean())


def projected(points: Numbers, directions: int = 64) -> Numbers:
    """Points [n, 2] projected on directions of a half circle, each projection sorted: [directions, n]."""
    turn = np.pi * (np.arange(directions) + 0.5) / directions
    return np.sort(np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(points.dtype) @ points.T, axis=1)


def diversity(features: Numbers) -> float:
    """Mean Euclidean distance between features of the same group, over all groups [groups, k ≥ 2, d]."""
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 3 or values.shape[1] < 2:
        raise ValueError(f"diversity needs features [groups, k ≥ 2, d], got {values.shape}")
    rows, columns = np.triu_indices(values.shape[1], 1)
    return float(np.linalg.norm(values[:, rows] - values[:, columns], axis=-1).mean())


def shown(pixels: Numbers) -> Numbers:
    """Pixels [b, c, h, w] as displayed: clipped to [0, 1], and with four channels to colour at most alpha."""
    inside = np.asarray(pixels, dtype=np.float64).clip(0, 1)
    if inside.shape[1] == 4:
        inside[:, :3] = np.minimum(inside[:, :3], inside[:, 3:])
    return inside


def sharpness(pixels: Numbers) -> float:
    """Fine detail: mean absolute Laplacian of pixels [b, c, h, w] as displayed. Blur lowers it, noise raises it."""
    image = shown(pixels)
    middle = image[:, :, 1:-1, 1:-1]
    around = image[:, :, :-2, 1:-1] + image[:, :, 2:, 1:-1] + image[:, :, 1:-1, :-2] + image[:, :, 1:-1, 2:]
    return float(np.abs(4 * middle - around).mean())


def pixel_distance(one: Numbers, other: Numbers) -> float:
    """Root mean square difference of two sets of pixels as displayed, pair by pair."""
    return float(np.sqrt(((shown(one) - shown(other)) ** 2).mean()))
