"""Second-order sampling of the probability-flow ODE (EDM 2206.00364 alg. 1 without churn)."""

from __future__ import annotations

from collections.abc import Iterator

from fewstep.core.arrays import Array, Condition
from fewstep.core.jump import Jump, StepVariable, consecutive, heun_step
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets, require_targets


def heun(
    estimator: Estimator,
    x: Array,
    levels: Level,
    cond: Condition,
    variable: StepVariable = "angle",
    sigma_data: float = 0.5,
) -> Iterator[Jump]:
    """Take N steps, the last one a jump: 2N − 1 evaluations, or 2N on an accelerator, where the end is not checked.

    Args:
        estimator: a denoiser or a flow map.
        x: [b, ...] the state at the first level.
        levels: N + 1 levels [N + 1], from the noisiest to clean.
        cond: the network's conditions.
        variable: the integration variable; `ratio` is EDM's choice, `angle` can also start at pure noise.
        sigma_data: σd in the definition of the angle.

    Yields:
        N jumps.

    Raises:
        UnsupportedTarget: the model is not a denoiser.
    """
    require_targets(estimator, Targets.SAME, "heun")
    for index, at, to in consecutive(levels, x.shape[0]):
        x, estimate = heun_step(estimator, x, at, to, cond, variable, sigma_data)
        yield Jump(index, at, to, x, estimate)
