"""Distributions of training noise levels, drawn as the ratio σ/α.

EDM's log-normal (2206.00364), the logit-normal of flow models (2403.03206), iCT's discretised log-normal
(2310.14189 §3.5) and the uniform choice of a grid's intervals (2303.01469).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fewstep.core.arrays import Array, ArrayT, like, namespace
from fewstep.core.checks import check_above_0, check_at_least, check_share
from fewstep.core.levels import Path


class Rng(Protocol):
    """A source of random numbers in one array namespace, which determines that of everything drawn with it; float64
    unless stated otherwise."""

    def normal(self, shape: Sequence[int]) -> Any: ...

    def uniform(self, shape: Sequence[int]) -> Any: ...


class Density(Protocol):
    """A distribution of noise levels."""

    def sample(self, rng: Rng, size: int) -> Any:
        """Draw `size` ratios σ/α, each finite and above 0."""
        ...


@dataclass(frozen=True)
class LogNormal:
    """ln(σ/α) ~ N(mean, std²). EDM: (−1.2, 1.2); ECT: (−1.1, 2.0); sCM: (−1.0, 1.4).

    Args:
        mean: Mean of ln(σ/α).
        std: Standard deviation of ln(σ/α).
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        check_at_least(0.0, std=self.std)

    def sample(self, rng: Rng, size: int) -> Any:
        normal = rng.normal((size,))
        return namespace(normal).exp(self.mean + self.std * normal)


@dataclass(frozen=True)
class LogitNormal:
    """The linear path's time t with ln(t/(1 − t)) ~ N(mean, std²): since σ/α = t/(1 − t), a log-normal.

    Args:
        mean: Mean of ln(t/(1 − t)).
        std: Standard deviation of ln(t/(1 − t)).
    """

    mean: float = -0.4
    std: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(0.0, std=self.std)

    def sample(self, rng: Rng, size: int) -> Any:
        return LogNormal(self.mean, self.std).sample(rng, size)


@dataclass(frozen=True)
class UniformKarras:
    """Uniform over the levels of a Karras grid: (σ/α)^{1/ρ} is uniform (2206.00364 eq. 5, as DMD2 draws levels)."""

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise ValueError(f"need 0 < low < high < ∞, got {self.low} and {self.high}")
        check_above_0(rho=self.rho)

    def sample(self, rng: Rng, size: int) -> Any:
        u = rng.uniform((size,))
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return (low + (high - low) * u) ** self.rho


@dataclass(frozen=True)
class UniformAngle:
    """TrigFlow's time θ = atan2(σ, σd·α) uniform over (low, high)."""

    sigma_data: float = 0.5
    low: float = 0.0
    high: float = math.pi / 2

    def __post_init__(self) -> None:
        check_above_0(sigma_data=self.sigma_data)
        if not 0 <= self.low < self.high <= math.pi / 2:
            raise ValueError(f"need 0 <= low < high <= π/2, got {self.low} and {self.high}")

    def sample(self, rng: Rng, size: int) -> Any:
        u = rng.uniform((size,))
        theta = self.low + (self.high - self.low) * (u * (1 - 2e-6) + 1e-6)
        return self.sigma_data * namespace(u).tan(theta)


@dataclass(frozen=True)
class UniformTime:
    """Uniform over the times of a path, as the denoisers on it were trained; pure noise is taken as σ/α = `highest`.

    Args:
        path: the path.
        highest: the largest σ/α.
    """

    path: Path
    highest: float = 1000.0

    def __post_init__(self) -> None:
        check_above_0(highest=self.highest)

    def sample(self, rng: Rng, size: int) -> Any:
        u = rng.uniform((size,))
        low, high = self.path.cleanest, self.path.noisiest
        # never the clean end itself, where σ/α may be 0
        level = self.path.level(low + (high - low) * (1e-6 + (1 - 1e-6) * u))
        # σ/α = t/(1 − t), t ≤ 1, may be infinite
        share = level.sigma / (level.alpha + level.sigma)
        most = self.highest / (1 + self.highest)
        share = namespace(u).clip(share, 0.0, most)
        return share / (1 - share)


@dataclass(frozen=True)
class LogStudentT:
    """ln(σ/α) from a truncated Student's t-distribution (TCM, 2410.14895 §4), with mass at both ends of the range.

    Args:
        loc, scale, freedom: location, scale and degrees of freedom; 0, 0.2 and 0.01 on CIFAR-10.
        low, high: bounds of σ/α.
    """

    loc: float = 0.0
    scale: float = 0.2
    freedom: float = 0.01
    low: float = 1.0
    high: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise ValueError(f"need 0 < low < high < ∞, got {self.low} and {self.high}")
        check_above_0(scale=self.scale, freedom=self.freedom)

    def sample(self, rng: Rng, size: int) -> Any:
        edges = np.linspace(math.log(self.low), math.log(self.high), 4097)
        middle = ((edges[1:] + edges[:-1]) / 2 - self.loc) / self.scale
        weights = (1 + middle**2 / self.freedom) ** (-(self.freedom + 1) / 2)
        u, v = rng.uniform((size,)), rng.uniform((size,))
        begin, width = like(edges, u), float(edges[1] - edges[0])
        return namespace(u).exp(begin[choose(weights, u)] + width * v)


class Pairs(Protocol):
    """A distribution of pairs of times t ≥ r on the linear path, for flow maps."""

    def sample(self, rng: Rng, size: int) -> tuple[Any, Any]:
        """Draw t and r [size], float64, 0 < r ≤ t ≤ 1 or r = 0; pairs with r = t train the denoiser."""
        ...


@dataclass(frozen=True)
class TwoTimes:
    """Both times from one density, the larger first; r = t in all but a share of pairs (MeanFlow, 2505.13447 §4.3).

    Args:
        density: distribution of σ/α = t/(1 − t).
        apart: the share of pairs with r < t: 0.25 on ImageNet's latents, 0.75 on CIFAR-10.
    """

    density: Density = LogitNormal()
    apart: float = 0.25

    def __post_init__(self) -> None:
        check_share("apart", self.apart)

    def sample(self, rng: Rng, size: int) -> tuple[Any, Any]:
        one, other = (_linear_time(self.density.sample(rng, size)) for _ in range(2))
        xp = namespace(one)
        t, r = xp.maximum(one, other), xp.minimum(one, other)
        return t, xp.where(rng.uniform((size,)) < self.apart, r, t)


@dataclass(frozen=True)
class Halves:
    """Steps of length 1, 1/2, 1/4 … 2/M that divide [0, 1] evenly (shortcut models, 2410.12557 §3.2).

    Args:
        finest: M, the finest division, whose steps are half of the shortest step; pairs with r = t use its times.
        apart: the share of pairs with r < t.
    """

    finest: int = 128
    apart: float = 0.25
    to_clean = True
    """Whether r = 0 is among the pairs."""

    def __post_init__(self) -> None:
        check_share("apart", self.apart)
        if self.finest < 2 or self.finest & (self.finest - 1):
            raise ValueError(f"finest must be a power of 2 above 1, got {self.finest}")

    def sample(self, rng: Rng, size: int) -> tuple[Any, Any]:
        length, place, share = (rng.uniform((size,)) for _ in range(3))
        xp = namespace(length)
        parts: Array = 2.0 ** xp.floor(xp.astype(length, xp.float64) * math.log2(self.finest))
        apart = share < self.apart
        parts = xp.where(apart, parts, xp.full_like(parts, self.finest))
        t = 1.0 - xp.floor(xp.astype(place, xp.float64) * parts) / parts
        return t, xp.where(apart, t - 1.0 / parts, t)


def _linear_time(ratio: Array) -> Array:
    ratio = namespace(ratio).astype(ratio, namespace(ratio).float64)
    return ratio / (1 + ratio)


def choose(weights: Array, u: ArrayT) -> ArrayT:
    """Pick indices by their weights: the inverse of the cumulative sum at u ∈ [0, 1), int64 of u's shape.

    Raises:
        ValueError: there is no weight above 0.
    """
    xp = namespace(u)
    cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
    if not len(cumulative) or not cumulative[-1] > 0:
        raise ValueError("nothing to choose from: a grid needs two levels or more, and weights above 0")
    index = xp.searchsorted(like(cumulative / cumulative[-1], u), u, side="right")
    return xp.clip(xp.astype(index, xp.int64), 0, len(cumulative) - 1)


def uniform_weights(ratios: Array) -> Array:
    """Equal weight for each interval of a grid of ascending ratios (2303.01469 alg. 2 and 3)."""
    return np.full(len(ratios) - 1, 1.0)


def lognormal_weights(ratios: Array, mean: float = -1.1, std: float = 2.0) -> Array:
    """iCT's weight of each interval [σ_i, σ_{i+1}] of a grid of ascending ratios (2310.14189 eq. in §3.5):

    p_i ∝ erf((ln σ_{i+1} − mean)/(√2·std)) − erf((ln σ_i − mean)/(√2·std)).
    """
    edges = [math.erf((math.log(r) - mean) / (math.sqrt(2) * std)) for r in np.asarray(ratios).tolist()]
    weights: Array = np.diff(np.asarray(edges))
    return weights
