"""Starting points other than pure noise: an image, noised to an intermediate level (SDEdit, 2108.01073)."""

from __future__ import annotations

from fewstep.core import grids
from fewstep.core.levels import Level

LEAST = 1e-30  # the power of a small strength may underflow to zero, which is not a level
RHO = 7.0  # as in the Karras grid: strength 0.5 is half-way along it


def level_of(strength: float, sigma_max: float = 80.0, rho: float = RHO) -> float:
    """The σ/α that an image is noised to: sigma_max·strength^ρ, at the share `strength` of the Karras grid.

    Args:
        strength: above 0; small values keep nearly all of the image, 1 keeps nothing.
        sigma_max: σ/α of pure noise.
        rho: ρ of the grid.

    Raises:
        ValueError: strength is not in (0, 1].
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    return max(LEAST, float(sigma_max * strength**rho))


def grid_from(ratio: float, steps: int, sigma_min: float = 0.002, last: float | None = None) -> Level:
    """A grid of `steps` jumps from σ/α = ratio to clean; one jump if ratio is not above sigma_min.

    Args:
        ratio: σ/α of the first level.
        steps: number of jumps.
        sigma_min: last level of a Karras grid before clean, for ODE solvers.
        last: level of a consistency model's last jump, since a jump from sigma_min would change nothing. The grid is
            then uniform in ln σ, and ends at this level or at half of `ratio`, whichever is lower.

    Raises:
        ValueError: steps or ratio is out of range.
    """
    if ratio <= sigma_min or steps == 1:
        grids.check_steps(steps)
        return grids.from_ratios([ratio])
    if last is None:
        return grids.karras(steps, sigma_min, ratio)
    return grids.log_uniform(steps, min(last, ratio / 2), ratio)
