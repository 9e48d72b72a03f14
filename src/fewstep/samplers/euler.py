"""First-order sampling of the probability-flow ODE: EDM's Euler, DDIM (2010.02502, η = 0) and the linear flow's
Euler are this same loop on different grids."""

from __future__ import annotations

from collections.abc import Iterator

from fewstep.core.arrays import Array, Condition
from fewstep.core.jump import Jump, consecutive, euler_step
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets, require_targets


def euler(estimator: Estimator, x: Array, levels: Level, cond: Condition) -> Iterator[Jump]:
    """Take N jumps with the denoiser's estimate.

    Args:
        estimator: a denoiser or a flow map.
        x: [b, ...] the state at the first level.
        levels: N + 1 levels [N + 1], from the noisiest to clean.
        cond: the network's conditions.

    Yields:
        N jumps, one evaluation each.

    Raises:
        UnsupportedTarget: the model is not a denoiser.
    """
    require_targets(estimator, Targets.SAME, "euler")
    for index, at, to in consecutive(levels, x.shape[0]):
        x, estimate = euler_step(estimator, x, at, to, cond)
        yield Jump(index, at, to, x, estimate)
