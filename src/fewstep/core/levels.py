"""Levels (how much data, how much noise) and the paths that put a clock on them.

A level is the pair (α, σ) of `x = α·data + σ·noise`. The ratio σ/α alone fixes the point of a trajectory; a
path only chooses scale and clock: VE (2206.00364), linear (2209.03003, 2210.02747), trig (2410.11081) and
VP (2006.11239).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fewstep.core.arrays import Array, ArrayLike, ArrayT, divide, is_tensor, like, namespace, per_sample


@dataclass(frozen=True, init=False)
class Level:
    """A pair (α, σ), or many pairs: both arrays have one shape, [] or [b] for a batch, [n] for a grid.

    Args:
        alpha: the data's coefficient, ≥ 0. float64 where it can be.
        sigma: the noise's standard deviation, ≥ 0; α and σ are not both 0.
    """

    alpha: Array
    sigma: Array

    def __init__(self, alpha: ArrayLike, sigma: ArrayLike) -> None:
        """Take arrays, or Python numbers, which become float64 arrays, and give both parts one shape."""
        parts = _pair(alpha, sigma)
        object.__setattr__(self, "alpha", parts[0])
        object.__setattr__(self, "sigma", parts[1])

    @property
    def ratio(self) -> Array:
        """σ/α: the noise level that VE papers call t or σ; ∞ at pure noise."""
        xp = namespace(self.alpha)
        quotient = divide(self.sigma, self.alpha)
        return xp.where(self.alpha == 0, xp.full_like(quotient, float("inf")), quotient)

    @property
    def clock(self) -> Array:
        """κ = α/σ, the clock of dy/dκ = D with y = x/σ: 0 at pure noise, ∞ at clean."""
        xp = namespace(self.alpha)
        quotient = divide(self.alpha, self.sigma)
        return xp.where(self.sigma == 0, xp.full_like(quotient, float("inf")), quotient)

    def angle(self, sigma_data: float = 1.0) -> Array:
        """atan2(σ, σd·α) ∈ [0, π/2]: TrigFlow's time, finite with its derivative at both ends."""
        return namespace(self.alpha).atan2(self.sigma, sigma_data * self.alpha)

    def magnitude(self, sigma_data: float = 1.0) -> Array:
        """√(α²σd² + σ²): the standard deviation of x for data of standard deviation σd."""
        return namespace(self.alpha).sqrt(self.alpha**2 * sigma_data**2 + self.sigma**2)

    def scaled(self, factor: ArrayLike) -> Level:
        """The same point of the trajectory for factor·x."""
        return Level(self.alpha * factor, self.sigma * factor)

    def mix(self, data: ArrayT, noise: ArrayT) -> ArrayT:
        """α·data + σ·noise, both [b, ...]."""
        return per_sample(self.alpha, data) * data + per_sample(self.sigma, noise) * noise

    def __getitem__(self, index: Any) -> Level:
        """Select levels by position, as from an array."""
        return Level(self.alpha[index], self.sigma[index])

    def __len__(self) -> int:
        """How many levels a grid or a batch holds."""
        return int(self.alpha.shape[0])

    def like(self, x: Array) -> Level:
        """The same numbers in x's namespace and on its device, their precision kept."""
        return Level(like(self.alpha, x), like(self.sigma, x))

    def with_kind_of(self, other: Level) -> Level:
        """The same numbers as tensors if `other` holds tensors; unchanged otherwise."""
        return self.like(other.sigma) if is_tensor(other.sigma) else self

    def batch(self, size: int) -> Level:
        """One level for each of `size` samples: shape [b]."""
        xp = namespace(self.alpha)
        return Level(xp.broadcast_to(self.alpha, (size,)), xp.broadcast_to(self.sigma, (size,)))


def _pair(alpha: ArrayLike, sigma: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays of one kind and shape; tensors if one of them is a tensor."""
    if isinstance(alpha, np.ndarray) and isinstance(sigma, np.ndarray) and alpha.shape == sigma.shape:
        return alpha, sigma  # as every level on the way of an image is
    xp = namespace(alpha, sigma)
    reference = sigma if namespace(sigma) is xp and not isinstance(sigma, (int, float)) else alpha
    parts: Sequence[Array]
    if isinstance(reference, (int, float)):
        parts = [np.asarray(part, dtype=np.float64) for part in (alpha, sigma)]
    else:
        parts = [like(part, reference) for part in (alpha, sigma)]
    if parts[0].shape != parts[1].shape:
        parts = xp.broadcast_arrays(*parts)
    return parts[0], parts[1]


CLEAN = Level(1.0, 0.0)
"""No noise: the place a consistency function jumps to."""

PURE_NOISE = Level(0.0, 1.0)
"""No data: where linear and trig paths begin."""


def from_ratio(ratio: ArrayLike) -> Level:
    """The VE level (1, ratio); ratio ≥ 0 and finite."""
    ratio = _as_array(ratio)
    return Level(namespace(ratio).ones_like(ratio), ratio)


class Path(Protocol):
    """A clock and a scale for levels.

    `cleanest` and `noisiest` bound the time; `level` maps a time (any shape) to its level; `time` maps any
    level, whatever its scale, to the time of the same ratio, clamped to the path's ends.
    """

    @property
    def cleanest(self) -> float: ...

    @property
    def noisiest(self) -> float: ...

    def level(self, time: ArrayLike) -> Level: ...

    def time(self, level: Level) -> Array: ...


def place(level: Level, path: Path) -> Level:
    """The level of the same ratio with the scale of `path`, clamped to the path's ends; clean stays clean."""
    xp = namespace(level.sigma)
    on_path = path.level(path.time(level))
    clean = level.sigma == 0
    return Level(
        xp.where(clean, xp.ones_like(on_path.alpha), on_path.alpha),
        xp.where(clean, xp.zeros_like(on_path.sigma), on_path.sigma),
    )


def _as_array(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=np.float64) if isinstance(values, (int, float)) else values


@dataclass(frozen=True)
class VE:
    """Variance exploding: x = data + t·noise (EDM, 2206.00364), t ∈ [sigma_min, sigma_max]."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def cleanest(self) -> float:
        return self.sigma_min

    @property
    def noisiest(self) -> float:
        return self.sigma_max

    def level(self, time: ArrayLike) -> Level:
        return from_ratio(_as_array(time))

    def time(self, level: Level) -> Array:
        xp = namespace(level.sigma)
        return xp.clip(level.ratio, self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class Linear:
    """Flow matching's straight line: x = (1 − t)·data + t·noise (2209.03003, 2210.02747), t ∈ [0, 1]."""

    cleanest: float = 0.0
    noisiest: float = 1.0

    def level(self, time: ArrayLike) -> Level:
        time = _as_array(time)
        return Level(1.0 - time, time)

    def time(self, level: Level) -> Array:
        return level.sigma / (level.alpha + level.sigma)


@dataclass(frozen=True)
class Trig:
    """TrigFlow: x = cos(t)·data + σd·sin(t)·noise (2410.11081 §4.1), t ∈ [0, π/2]."""

    sigma_data: float = 0.5
    cleanest: float = 0.0
    noisiest: float = np.pi / 2

    def level(self, time: ArrayLike) -> Level:
        time = _as_array(time)
        xp = namespace(time)
        # cos(t) as sin(π/2 − t): 0 at the end of the path, where cos(π/2) is 6e-17, and smooth there
        alpha = xp.sin(xp.clip(self.noisiest - time, 0.0, np.pi / 2))
        return Level(alpha, self.sigma_data * xp.sin(time))

    def time(self, level: Level) -> Array:
        return level.angle(self.sigma_data)


@dataclass(frozen=True)
class VP:
    """Variance preserving over a table of betas (DDPM 2006.11239): x = √ᾱ_t·data + √(1 − ᾱ_t)·noise.

    Between the integer timesteps 0 … len(betas) − 1 the log-SNR is interpolated linearly.

    Args:
        betas: the noise added by each step, each in (0, 1).
    """

    betas: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or not all(0.0 < b < 1.0 for b in self.betas):
            raise ValueError("betas must be at least two numbers, each between 0 and 1")

    @classmethod
    def ddpm(cls, beta_start: float = 1e-4, beta_end: float = 2e-2, timesteps: int = 1000) -> VP:
        """Betas linear in t (DDPM)."""
        return cls(tuple(np.linspace(beta_start, beta_end, timesteps).tolist()))

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> VP:
        """√beta linear in t (latent diffusion, 2112.10752): Stable Diffusion's table."""
        return cls(tuple((np.linspace(beta_start**0.5, beta_end**0.5, timesteps) ** 2).tolist()))

    @classmethod
    def cosine(cls, timesteps: int = 1000, max_beta: float = 0.999) -> VP:
        """ᾱ = cos²((t + 0.008)/1.008·π/2) (2102.09672)."""
        t = np.arange(timesteps + 1) / timesteps
        alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        return cls(tuple(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], max_beta).tolist()))

    @cached_property
    def log_ratio(self) -> Any:
        """ln(σ/α) at each integer timestep, increasing: float64 [timesteps]."""
        alpha_bar = np.cumprod(1.0 - np.asarray(self.betas, dtype=np.float64))
        return 0.5 * (np.log1p(-alpha_bar) - np.log(alpha_bar))

    @property
    def cleanest(self) -> float:
        return 0.0

    @property
    def noisiest(self) -> float:
        return float(len(self.betas) - 1)

    def level(self, time: ArrayLike) -> Level:
        time = _as_array(time)
        xp = namespace(time)
        table = like(self.log_ratio, time)
        time = xp.clip(xp.astype(time, table.dtype), 0.0, self.noisiest)
        below = xp.clip(xp.astype(xp.floor(time), xp.int64), 0, len(self.betas) - 2)
        weight = time - xp.astype(below, time.dtype)
        ratio = xp.exp((1 - weight) * table[below] + weight * table[below + 1])
        alpha = 1 / xp.sqrt(1 + ratio**2)
        return Level(alpha, ratio * alpha)

    def time(self, level: Level) -> Array:
        xp = namespace(level.sigma)
        table = like(self.log_ratio, level.sigma)
        # the table's own ends as bounds keep the logarithm finite at α = 0 and σ = 0
        low, high = float(np.exp(self.log_ratio[0])), float(np.exp(self.log_ratio[-1]))
        value = xp.log(xp.clip(xp.astype(level.ratio, table.dtype), low, high))
        above = xp.clip(xp.searchsorted(table, value), 1, len(self.betas) - 1)
        left, right = table[above - 1], table[above]
        time = xp.astype(above - 1, table.dtype) + (value - left) / (right - left)
        return xp.clip(time, 0.0, self.noisiest)
