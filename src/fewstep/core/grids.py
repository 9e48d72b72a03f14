"""Sampling grids: N + 1 levels from the noisiest to clean, for N ≥ 1 steps.

Karras (2206.00364 eq. 5), log-uniform, uniform in a path's own time, and DDPM's trailing and leading
timesteps (2305.08891 table 2). Each is float64 NumPy; N = 1 is one jump from the noisiest level to clean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewstep.core.arrays import Array
from fewstep.core.checks import check_above_0
from fewstep.core.levels import VP, Level, Path, from_ratio

MAX_STEPS = 10_000

SIGMA_MAX = 80.0
"""σ/α that sampling begins with unless told otherwise (2206.00364 table 1)."""


def check_steps(steps: int, most: int = MAX_STEPS) -> None:
    """Raise ValueError unless `steps` is a whole number from 1 to `most`."""
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not 1 <= steps <= most:
        raise ValueError(f"steps must be a whole number between 1 and {most}, got {steps}")


def from_ratios(ratios: Array | Sequence[float]) -> Level:
    """The grid through these σ/α, in falling order, with clean at its end; `inf` means pure noise."""
    values = np.asarray(ratios, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or np.any(np.isnan(values)):
        raise ValueError(f"a grid needs a list of σ/α, got {ratios!r}")
    if np.any(values <= 0) or not np.all(values[1:] < values[:-1]):
        raise ValueError(f"a grid's σ/α must be above 0 and fall, got {values.tolist()}")
    pure = np.isinf(values)
    levels = Level(np.where(pure, 0.0, 1.0), np.where(pure, 1.0, values))
    return _with_clean(levels)


def karras(steps: int, sigma_min: float = 0.002, sigma_max: float = SIGMA_MAX, rho: float = 7.0) -> Level:
    """EDM's grid (2206.00364 eq. 5): σ^{1/ρ} evenly spaced from sigma_max to sigma_min, then clean."""
    check_steps(steps)
    check_range(sigma_min, sigma_max)
    check_above_0(rho=rho)
    fraction = np.linspace(0.0, 1.0, steps)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _with_clean(from_ratio((high + fraction * (low - high)) ** rho))


def log_uniform(steps: int, sigma_min: float = 0.002, sigma_max: float = SIGMA_MAX) -> Level:
    """ln(σ/α) evenly spaced from sigma_max to sigma_min, then clean."""
    check_steps(steps)
    check_range(sigma_min, sigma_max)
    return _with_clean(from_ratio(np.exp(np.linspace(np.log(sigma_max), np.log(sigma_min), steps))))


def uniform(path: Path, steps: int) -> Level:
    """The path's own time in N equal parts, from its noisiest end to clean."""
    check_steps(steps)
    times = np.linspace(path.noisiest, path.cleanest, steps + 1)
    levels = path.level(times[:-1])
    return _with_clean(levels)


def trailing(path: VP, steps: int) -> Level:
    """DDPM timesteps counted from the noisy end (2305.08891): T − 1, T − 1 − T/N, …, then clean."""
    total = len(path.betas)
    check_steps(steps, total)
    times = np.round(np.arange(total, 0, -total / steps))[:steps] - 1
    return _with_clean(path.level(times))


def leading(path: VP, steps: int, offset: int = 0) -> Level:
    """DDPM timesteps counted from the clean end: (N − 1)·⌊T/N⌋ + offset, …, offset, then clean."""
    total = len(path.betas)
    check_steps(steps, total)
    times = np.arange(steps - 1, -1, -1) * (total // steps) + offset
    if offset < 0 or times[0] >= total:
        raise ValueError(f"offset must be at least 0 and keep {steps} steps below {total}, got {offset}")
    return _with_clean(path.level(times.astype(np.float64)))


def check_range(sigma_min: float, sigma_max: float) -> None:
    """Raise ValueError unless a grid of σ/α can lie between both."""
    if not 0 < sigma_min < sigma_max < float("inf"):
        raise ValueError(f"need 0 < sigma_min < sigma_max < ∞, got {sigma_min} and {sigma_max}")


def _with_clean(levels: Level) -> Level:
    return Level(np.append(np.asarray(levels.alpha), 1.0), np.append(np.asarray(levels.sigma), 0.0))
