"""Starts other than pure noise: an image, noised to a level on the way (SDEdit, 2108.01073)."""

from __future__ import annotations

from fewstep.core import grids
from fewstep.core.levels import Level

LEAST = 1e-30  # a power of a small strength may be zero, which is no level
RHO = 7.0  # as in the Karras grid: strength 0.5 is half-way along it


def level_of(strength: float, sigma_max: float = 80.0, rho: float = RHO) -> float:
    """The σ/α that an image is noised to: sigma_max·strength^ρ, as far along the Karras grid as `strength` says.

    Args:
        strength: 1 leaves nothing of the image, small values nearly everything; above 0.
        sigma_max: σ/α of pure noise.
        rho: of the grid.

    Raises:
        ValueError: strength is not in (0, 1].
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    return max(LEAST, float(sigma_max * strength**rho))


def grid_from(ratio: float, steps: int, sigma_min: float = 0.002, last: float | None = None) -> Level:
    """A grid of `steps` jumps from σ/α = ratio to clean; one jump where ratio is not above sigma_min.

    Args:
        ratio: where it begins.
        steps: jumps.
        sigma_min: where a Karras grid ends before clean: for solvers of the ODE.
        last: the level from which a consistency model likes to make its last jump; from sigma_min it would change
            nothing. The grid is then even in ln σ, and ends there or at half of `ratio`, whichever is lower.

    Raises:
        ValueError: steps or ratio are out of range.
    """
    if ratio <= sigma_min or steps == 1:
        grids.check_steps(steps)
        return grids.from_ratios([ratio])
    if last is None:
        return grids.karras(steps, sigma_min, ratio)
    return grids.log_uniform(steps, min(last, ratio / 2), ratio)
