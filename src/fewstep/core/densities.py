"""Where training looks: densities over noise levels, drawn as the ratio σ/α.

EDM's log-normal (2206.00364), the logit-normal of flow models (2403.03206), iCT's discretised log-normal
(2310.14189 §3.5) and the uniform choice of a grid's intervals (2303.01469).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fewstep.core.arrays import Array, like, namespace


class Rng(Protocol):
    """A source of random numbers in one namespace; float64 where not said otherwise."""

    def normal(self, shape: Sequence[int]) -> Array: ...

    def uniform(self, shape: Sequence[int]) -> Array: ...


class Density(Protocol):
    """A distribution of noise levels."""

    def sample(self, rng: Rng, size: int) -> Array:
        """Draw `size` ratios σ/α, each finite and above 0."""
        ...


@dataclass(frozen=True)
class LogNormal:
    """ln(σ/α) ~ N(mean, std²). EDM: (−1.2, 1.2); ECT: (−1.1, 2.0); sCM: (−1.0, 1.4)."""

    mean: float = -1.2
    std: float = 1.2

    def sample(self, rng: Rng, size: int) -> Array:
        normal = rng.normal((size,))
        return namespace(normal).exp(self.mean + self.std * normal)


@dataclass(frozen=True)
class LogitNormal:
    """The linear path's time t with ln(t/(1 − t)) ~ N(mean, std²): since σ/α = t/(1 − t), a log-normal."""

    mean: float = -0.4
    std: float = 1.0

    def sample(self, rng: Rng, size: int) -> Array:
        return LogNormal(self.mean, self.std).sample(rng, size)


@dataclass(frozen=True)
class UniformAngle:
    """TrigFlow's time θ = atan2(σ, σd·α) uniform over (low, high)."""

    sigma_data: float = 0.5
    low: float = 0.0
    high: float = math.pi / 2

    def sample(self, rng: Rng, size: int) -> Array:
        u = rng.uniform((size,))
        theta = self.low + (self.high - self.low) * (u * (1 - 2e-6) + 1e-6)
        return self.sigma_data * namespace(u).tan(theta)


def choose(weights: Array, u: Array) -> Array:
    """Pick indices by their weights: the inverse of the cumulative sum at u ∈ [0, 1), int64 of u's shape."""
    xp = namespace(u)
    cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
    index = xp.searchsorted(like(cumulative / cumulative[-1], u), u, side="right")
    return xp.clip(xp.astype(index, xp.int64), 0, len(cumulative) - 1)


def uniform_weights(ratios: Array) -> Array:
    """Equal weight for each interval of a grid of rising ratios (2303.01469 alg. 2 and 3)."""
    return np.full(len(ratios) - 1, 1.0)


def lognormal_weights(ratios: Array, mean: float = -1.1, std: float = 2.0) -> Array:
    """iCT's weight of each interval [σ_i, σ_{i+1}] of a grid of rising ratios (2310.14189 eq. in §3.5):

    p_i ∝ erf((ln σ_{i+1} − mean)/(√2·std)) − erf((ln σ_i − mean)/(√2·std)).
    """
    edges = [math.erf((math.log(r) - mean) / (math.sqrt(2) * std)) for r in np.asarray(ratios).tolist()]
    weights: Array = np.diff(np.asarray(edges))
    return weights
