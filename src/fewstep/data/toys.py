"""2-D point sets with known or visible answers: mixtures of Gaussians, checkerboard, moons, spiral.

All are centred and scaled to a standard deviation of 0.5 (σd) over all coordinates, using closed forms and not a
sample. Each example is drawn afresh from its rng, so `size` is only the length of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewstep.core.levels import Level
from fewstep.data.dataset import DataError, Example

SIGMA_DATA = 0.5
EPOCH = 2**16

Points = NDArray[np.float32]


class Mixture:
    """A mixture of isotropic Gaussians; the label of an example is its component.

    `weights` [k], `means` [k, d] and `stds` [k] are float64 and describe the points after scaling; `denoise` is the
    closed-form solution that a denoiser trained on them should approach.

    Args:
        weights: k positive numbers; they are divided by their sum.
        means: [k, d].
        stds: k positive numbers, or one for all.
        scaled: whether to centre and scale to a standard deviation of 0.5; False keeps the means and stds.
        size: examples per epoch.
        name: name of the data set.

    Raises:
        DataError: the shapes do not match, or a weight or std is not positive.
    """

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        stds: ArrayLike,
        *,
        scaled: bool = True,
        size: int = EPOCH,
        name: str = "mixture",
    ) -> None:
        w, m = np.asarray(weights, dtype=np.float64), np.asarray(means, dtype=np.float64)
        if w.ndim != 1 or m.ndim != 2 or len(w) != len(m) or len(w) == 0:
            raise DataError(f"weights must be [k] and means [k, d], got {list(w.shape)} and {list(m.shape)}")
        s = np.asarray(stds, dtype=np.float64)
        if s.shape not in ((), w.shape):
            raise DataError(f"stds must be one number or one per mean, got {list(s.shape)} for {len(w)} means")
        if not ((w > 0).all() and (s > 0).all()):
            raise DataError("weights and stds must be positive")
        w, s = w / w.sum(), np.broadcast_to(s, w.shape)
        if scaled:
            m = m - w @ m
            scale = SIGMA_DATA / math.sqrt(w @ (np.mean(m**2, axis=1) + s**2))
            m, s = m * scale, s * scale
        self.weights, self.means, self.stds = w, m, s.copy()
        self.name = name
        self.shape = (m.shape[1],)
        self.classes = len(w)
        self.captions: list[str] = []
        self._size = _length(size)
        self._edges = np.cumsum(w)[:-1]  # component i is where a uniform number falls between edges i − 1 and i

    def __len__(self) -> int:
        return self._size

    def sample(self, n: int, rng: np.random.Generator) -> Points:
        """n points: float32 [n, d]."""
        return self._draw(n, rng)[0]

    def denoise(self, x: ArrayLike, at: Level) -> NDArray[np.float64]:
        """The exact denoiser E[data | x] at levels [] or [b], x [b, d], by Bayes' rule: each component gives

        (σ²·mean + α·std²·x)/v with v = α²·std² + σ², weighted by its share w·N(x; α·mean, v).
        """
        x = np.asarray(x, dtype=np.float64)
        alpha, sigma = (np.broadcast_to(np.asarray(part), len(x))[:, None] for part in (at.alpha, at.sigma))
        variance = (alpha * self.stds) ** 2 + sigma**2
        apart = ((x[:, None, :] - alpha[:, :, None] * self.means) ** 2).sum(axis=2)
        logit = np.log(self.weights) - 0.5 * (self.shape[0] * np.log(variance) + apart / variance)
        share = np.exp(logit - logit.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        to_mean, to_x = share * sigma**2 / variance, share * alpha * self.stds**2 / variance
        answer: NDArray[np.float64] = to_mean @ self.means + to_x.sum(axis=1, keepdims=True) * x
        return answer

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """A new point, with its component as label."""
        points, components = self._draw(1, rng)
        return Example(points[0], label=int(components[0]))

    def _draw(self, n: int, rng: np.random.Generator) -> tuple[Points, NDArray[np.intp]]:
        component = np.searchsorted(self._edges, rng.random(n), side="right")
        noise = rng.standard_normal((n, *self.shape))
        return (self.means[component] + self.stds[component, None] * noise).astype(np.float32), component


def ring(count: int = 8, std: float = 0.1, *, size: int = EPOCH) -> Mixture:
    """`count` equal Gaussians on a circle; `std` is in units of the circle's radius."""
    angle = np.arange(count) * (2 * math.pi / count)
    means = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Mixture(np.ones(count), means, std, size=size, name=f"ring-{count}")


class PointSet:
    """Points drawn by a function.

    Args:
        name: name of the data set.
        draw: function from (n, rng) to points float64 [n, 2].
        mean, std: closed-form mean [2] of those points, and standard deviation over all coordinates.
        size: examples per epoch.
    """

    classes = 0
    shape = (2,)

    def __init__(
        self,
        name: str,
        draw: Callable[[int, np.random.Generator], NDArray[np.float64]],
        mean: Sequence[float],
        std: float,
        size: int = EPOCH,
    ) -> None:
        self.name = name
        self.captions: list[str] = []
        self._draw = draw
        self._mean = np.array(mean)
        self._scale = SIGMA_DATA / std
        self._size = _length(size)

    def __len__(self) -> int:
        return self._size

    def sample(self, n: int, rng: np.random.Generator) -> Points:
        """n points: float32 [n, 2]."""
        points: Points = ((self._draw(n, rng) - self._mean) * self._scale).astype(np.float32)
        return points

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """A new point."""
        return Example(self.sample(1, rng)[0])


def checkerboard(cells: int = 4, *, size: int = EPOCH) -> PointSet:
    """Uniform on the squares of one colour of a cells × cells board (`cells` even, so that the mean is 0)."""
    if cells < 2 or cells % 2:
        raise DataError(f"cells must be an even number from 2, got {cells}")

    def draw(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        column = rng.integers(cells, size=n)
        row = 2 * rng.integers(cells // 2, size=n) + column % 2
        return np.stack([column, row], axis=1) + rng.random((n, 2)) - cells / 2

    # Each coordinate alone is uniform on the board's side.
    return PointSet("checkerboard", draw, (0.0, 0.0), cells / math.sqrt(12), size)


def two_moons(noise: float = 0.05, *, size: int = EPOCH) -> PointSet:
    """Two interleaving half circles of radius 1, blurred by Gaussian noise of std `noise`."""

    def draw(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        angle = rng.random(n) * math.pi
        upper = rng.random(n) < 0.5
        x = np.where(upper, np.cos(angle), 1 - np.cos(angle))
        y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
        return np.stack([x, y], axis=1) + noise * rng.standard_normal((n, 2))

    # E x² = (1/2 + 3/2)/2, E y² = (1/2 + 3/4 − 2/π)/2, means 1/2 and 1/4.
    variance_x, variance_y = 3 / 4, 5 / 8 - 1 / math.pi - 1 / 16
    return PointSet("two-moons", draw, (0.5, 0.25), math.sqrt((variance_x + variance_y) / 2 + noise**2), size)


def spiral(turns: float = 1.5, noise: float = 0.1, *, size: int = EPOCH) -> PointSet:
    """Two arms of an Archimedean spiral, π apart, blurred by Gaussian noise of std `noise`."""
    end = turns * 2 * math.pi

    def draw(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        t = end * np.sqrt(rng.random(n))  # density ∝ t: even along the arm
        arm = np.where(rng.random(n) < 0.5, t, -t)
        return np.stack([arm * np.cos(t), arm * np.sin(t)], axis=1) + noise * rng.standard_normal((n, 2))

    # The arms cancel in the mean; E(x² + y²) = E t² = end²/2.
    return PointSet("spiral", draw, (0.0, 0.0), math.sqrt(end**2 / 4 + noise**2), size)


def _length(size: int) -> int:
    if size < 1:
        raise DataError(f"size must be at least 1, got {size}")
    return size
