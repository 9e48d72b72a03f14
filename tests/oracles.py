"""Closed-form estimators, for tests: on a Gaussian and on a mixture of Gaussians the denoiser is exact, and the
flow map, the consistency function and every two-level estimate follow from dy/dκ = D.

Both are `Estimator`s of any target, for NumPy arrays and torch tensors alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import is_torch_array
from scipy.integrate import solve_ivp

from fewstep.core.arrays import Array, Condition, divide, like, namespace, per_sample
from fewstep.core.levels import CLEAN, Level
from fewstep.core.parameterisations import Targets

NO_CONDITION: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Gaussian:
    """Data ~ N(mean, std²), every dimension on its own.

    Args:
        mean, std: numbers, or arrays of a sample's shape.
        targets: what the estimator claims; `CLEAN` and `ANY` look at `to`, `SAME` does not.
    """

    mean: Any = 0.0
    std: Any = 1.0
    targets: Targets = Targets.ANY
    epsilon: float = 0.0

    def __call__(self, x: Array, at: Level, to: Level, cond: Condition = NO_CONDITION) -> Array:
        """The average of the denoiser over κ from `at` to `to`, without a difference of near numbers:

        D = mean + z·std²·(σ_s·α_r + σ_r·α_s)/(σ_s·m_r + σ_r·m_s), m = √(α²std² + σ²), z = (x − α_s·mean)/m_s.
        """
        to = at if self.targets is Targets.SAME else to
        m_s, m_r = self._spread(x, at), self._spread(x, to)
        (a_s, s_s), (a_r, s_r) = _parts(x, at), _parts(x, to)
        mean, std = like_data(self.mean, x), like_data(self.std, x)
        up, down = s_s * a_r + s_r * a_s + 0 * m_s, s_s * m_r + s_r * m_s
        clean = down == 0  # both levels: the limit is α/m = 1/std
        gain = namespace(x).where(clean, a_s / m_s, divide(up, down))
        return mean + (x - a_s * mean) / m_s * std**2 * gain

    def denoise(self, x: Array, at: Level) -> Array:
        """E[data | x] = (mean·σ² + α·std²·x)/(α²std² + σ²)."""
        return self(x, at, at)

    def flow(self, x: Array, at: Level, to: Level) -> Array:
        """Where the trajectory through x at `at` is at `to`."""
        mean = like_data(self.mean, x)
        (a_s, _), (a_r, _) = _parts(x, at), _parts(x, to)
        return a_r * mean + (x - a_s * mean) * (self._spread(x, to) / self._spread(x, at))

    def sample(self, rng: np.random.Generator, shape: Sequence[int]) -> Any:
        """Data: float64 NumPy of `shape`, the batch first."""
        return self.mean + self.std * rng.standard_normal(tuple(shape))

    def _spread(self, x: Array, level: Level) -> Array:
        alpha, sigma = _parts(x, level)
        return namespace(x).sqrt((alpha * like_data(self.std, x)) ** 2 + sigma**2 + 0 * x)


@dataclass(frozen=True)
class Mixture:
    """A mixture of round Gaussians.

    Args:
        weights: [k], of any sum.
        means: [k, d].
        std: one number, or [k].
        targets: as for `Gaussian`.
        tolerance: of the numerical flow map.
    """

    weights: Any
    means: Any
    std: Any
    targets: Targets = Targets.ANY
    epsilon: float = 0.0
    tolerance: float = 1e-9

    @classmethod
    def ring(cls, k: int = 5, radius: float = 0.8, std: float = 0.12, **options: Any) -> Mixture:
        """k components of rising weight on a circle, off the centre: nothing about it is symmetric."""
        turn = 2 * np.pi * np.arange(k) / k
        means = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1) + np.array([0.1, -0.05])
        return cls(np.arange(1.0, k + 1.0), means, std * np.linspace(0.8, 1.2, k), **options)

    def denoise(self, x: Array, at: Level) -> Array:
        """E[data | x] = Σ p_k(x)·(σ²·mean_k + α·std_k²·x)/v_k, v_k = α²std_k² + σ²; x is [b, d]."""
        shares, variance, means, std, (alpha, sigma) = self._posterior(x, at)
        gain = alpha * std**2 / variance
        each = sigma[:, None, :] ** 2 / variance[:, :, None] * means + gain[:, :, None] * x[:, None, :]
        return namespace(x).sum(shares[:, :, None] * each, axis=1)

    def implied_noise(self, x: Array, at: Level) -> Array:
        """E[noise | x] = −σ·score = σ·Σ p_k(x)·(x − α·mean_k)/v_k, finite at σ = 0."""
        shares, variance, means, _, (alpha, sigma) = self._posterior(x, at)
        each = (x[:, None, :] - alpha[:, None, :] * means) / variance[:, :, None]
        return sigma * namespace(x).sum(shares[:, :, None] * each, axis=1)

    def flow(self, x: Array, at: Level, to: Level) -> Array:
        """Where the trajectory through x at `at` is at `to`: DOP853 in float64 over θ = atan2(σ, α), where the
        flow is dx/dθ = −sin θ·D + cos θ·implied noise, smooth from pure noise to clean."""
        at, to = (Level(_numpy(lv.alpha), _numpy(lv.sigma)).batch(x.shape[0]) for lv in (at, to))
        start, width = at.angle()[:, None], (to.angle() - at.angle())[:, None]

        def rate(u: float, flat: Any) -> Any:
            y, theta = flat.reshape(x.shape), start + u * width
            level = Level(np.cos(theta[:, 0]), np.sin(theta[:, 0]))
            slope = -np.sin(theta) * self.denoise(y, level) + np.cos(theta) * self.implied_noise(y, level)
            return (width * slope).ravel()

        begin = _numpy(x).astype(np.float64) / at.magnitude()[:, None]
        result = solve_ivp(rate, (0, 1), begin.ravel(), "DOP853", rtol=self.tolerance, atol=self.tolerance)
        end = result.y[:, -1].reshape(x.shape) * to.magnitude()[:, None]
        return namespace(x).astype(like(end, x), x.dtype)

    def __call__(self, x: Array, at: Level, to: Level, cond: Condition = NO_CONDITION) -> Array:
        """The average of the denoiser over κ: (σ_s·x_r − σ_r·x_s)/(α_r·σ_s − α_s·σ_r)."""
        if self.targets is Targets.SAME or _equal(at, to):
            return self.denoise(x, at)
        (a_s, s_s), (a_r, s_r) = _parts(x, at), _parts(x, to)
        gap = a_r * s_s - a_s * s_r
        average = divide(s_s * self.flow(x, at, to) - s_r * x, gap + 0 * x)
        return namespace(x).where(gap + 0 * x == 0, self.denoise(x, at), average)

    def sample(self, rng: np.random.Generator, size: int) -> Any:
        """Data: float64 NumPy [size, d]."""
        means, weights = np.asarray(self.means), np.asarray(self.weights)
        k = rng.choice(len(weights), size, p=weights / weights.sum())
        std = np.broadcast_to(np.asarray(self.std, dtype=np.float64), weights.shape)[k]
        return means[k] + std[:, None] * rng.standard_normal((size, means.shape[1]))

    def _posterior(self, x: Array, at: Level) -> tuple[Array, Array, Array, Array, tuple[Array, Array]]:
        """The components' shares [b, k] and variances [b, k] at x, and the parts they are made of."""
        xp = namespace(x)
        weights, means = like_data(self.weights, x), like_data(self.means, x)
        std = xp.broadcast_to(like_data(self.std, x), weights.shape)
        alpha, sigma = (values + 0 * x[:, :1] for values in _parts(x, at))
        variance = (alpha * std) ** 2 + sigma**2
        square = xp.sum((x[:, None, :] - alpha[:, None, :] * means) ** 2, axis=2)
        logit = xp.log(weights) - 0.5 * x.shape[1] * xp.log(variance) - 0.5 * square / variance
        shares = xp.exp(logit - xp.max(logit, axis=1, keepdims=True))
        return shares / xp.sum(shares, axis=1, keepdims=True), variance, means, std, (alpha, sigma)


@dataclass(frozen=True)
class Constant:
    """Always the same estimate: what every solver must follow exactly to its end."""

    data: Any
    targets: Targets = Targets.ANY
    epsilon: float = 0.0

    def __call__(self, x: Array, at: Level, to: Level, cond: Condition = NO_CONDITION) -> Array:
        return 0 * x + like_data(self.data, x)


def sliced_wasserstein(a: Any, b: Any, directions: int = 64) -> float:
    """The mean 1-Wasserstein distance of equally many points [n, d] over directions of a half circle (d = 2)."""
    turn = np.pi * (np.arange(directions) + 0.5) / directions
    rays = np.stack([np.cos(turn), np.sin(turn)])
    return float(np.mean(np.abs(np.sort(np.asarray(a) @ rays, axis=0) - np.sort(np.asarray(b) @ rays, axis=0))))


def sampling_floor(oracle: Mixture, size: int, pairs: int = 12) -> float:
    """The distance that two samples of the data itself hardly ever exceed: a quarter above the worst of `pairs`."""
    rng = np.random.default_rng(12345)
    return 1.25 * max(sliced_wasserstein(oracle.sample(rng, size), oracle.sample(rng, size)) for _ in range(pairs))


def consistency_function(oracle: Gaussian | Mixture, x: Array, at: Level) -> Array:
    """The exact f(x, at): the clean end of the trajectory."""
    return oracle.flow(x, at, CLEAN.batch(x.shape[0]))


def like_data(values: Any, x: Array) -> Array:
    """Fixed numbers as an array of x's namespace, device and precision."""
    values = values if is_torch_array(values) else np.asarray(values, dtype=np.float64)
    return namespace(x).astype(like(values, x), x.dtype)


def _parts(x: Array, level: Level) -> tuple[Array, Array]:
    return per_sample(level.alpha, x), per_sample(level.sigma, x)


def _equal(at: Level, to: Level) -> bool:
    parts = ((at.alpha, to.alpha), (at.sigma, to.sigma))
    return all(a is b or np.array_equal(_numpy(a), _numpy(b)) for a, b in parts)


def _numpy(values: Array) -> Any:
    return np.asarray(values.detach().cpu() if is_torch_array(values) else values)
