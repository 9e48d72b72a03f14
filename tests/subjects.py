"""What many tests are about: every path, and the small things that put NumPy and torch on one footing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fewstep.core.levels import VE, VP, Level, Linear, Path, Trig, place

PATHS: dict[str, Path] = {
    "ve": VE(),
    "linear": Linear(),
    "trig": Trig(),
    "trig_unit": Trig(sigma_data=1.0),
    "scaled_linear": VP.scaled_linear(),
    "ddpm": VP.ddpm(),
    "cosine": VP.cosine(),
}
"""Every path, and those with a parameter at more than one value of it."""

STEPS = (1, 2, 4, 8)
"""The step counts that every grid and sampler is tested at: one step is a first-class case."""


def noisiest(path: Path) -> Level:
    """The level that sampling on this path starts from."""
    return path.level(np.float64(path.noisiest))


def angles(path: Path, steps: int, end: float, sigma_data: float = 0.5) -> Level:
    """`steps` + 1 levels of the path, evenly spaced in atan2(σ, σd·α) from its noisy end down to `end`."""
    theta = np.linspace(float(noisiest(path).angle(sigma_data)), end, steps + 1)
    levels = place(Level(np.cos(theta) / sigma_data, np.sin(theta)), path)
    first = noisiest(path)  # cos(π/2) is not quite 0
    alpha, sigma = levels.alpha.copy(), levels.sigma.copy()
    alpha[0], sigma[0] = first.alpha, first.sigma
    return Level(alpha, sigma)


def slope(steps: list[int], errors: list[float]) -> float:
    """The order of convergence: minus the slope of ln(error) over ln(steps), by least squares."""
    return float(-np.polyfit(np.log(steps), np.log(errors), 1)[0])


def tensor(values: Any, **options: Any) -> torch.Tensor:
    """A float64 tensor, unless another dtype is asked for."""
    return torch.tensor(values, **{"dtype": torch.float64, **options})


def normal(*shape: int, seed: int = 0) -> Any:
    """Standard normal float64 NumPy."""
    return np.random.default_rng(seed).standard_normal(shape)
