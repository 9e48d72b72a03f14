"""Sampling with a flow map: jumps from level to level, each with the estimate for its own end (2506.14603 §2).

γ is the share of fresh noise, as in CTM (2310.02279 alg. 2): a jump goes to √(1 − γ²)·σ', and γ·σ' of fresh noise
is added. 0 follows the flow, so that the result is a function of the start; 1 jumps to clean and re-noises. With an
exact flow map, every γ preserves the distribution of the data. TCD's η (2402.19159 §3.3) is a share of the timestep
instead: `fewstep.interop.diffusers.timesteps.tcd_gammas` gives the γ of each jump.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from fewstep.core.arrays import Array, Condition, like, namespace, per_sample
from fewstep.core.checks import check_share
from fewstep.core.jump import Jump, consecutive, jump
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets, require_targets
from fewstep.samplers.consistency import NoiseSource


def flow_map(
    estimator: Estimator,
    x: Array,
    levels: Level,
    cond: Condition,
    noise: NoiseSource | None = None,
    gamma: float = 0.0,
) -> Iterator[Jump]:
    """Jump from level to level.

    Args:
        estimator: a flow map.
        x: [b, ...] the state at the first level.
        levels: N + 1 levels [N + 1], from the noisiest to clean.
        cond: the network's conditions.
        noise: fresh noise; draws 1 … N − 1 are used if gamma > 0, otherwise none is needed.
        gamma: the share of fresh noise, in [0, 1].

    Yields:
        N jumps, one evaluation each.

    Raises:
        UnsupportedTarget: the model is not a flow map.
        ValueError: gamma is outside [0, 1], or above 0 without noise.
    """
    require_targets(estimator, Targets.ANY, "flow_map")
    check_share("gamma", gamma)
    if gamma and noise is None:
        raise ValueError("gamma above 0 needs fresh noise: give `noise`")
    for index, at, to in consecutive(levels, x.shape[0]):
        aim = Level(to.alpha, to.sigma * math.sqrt(1 - gamma**2))
        estimate = estimator(x, at, aim, cond)
        x = jump(x, at, aim, estimate)
        if noise is not None and gamma and not bool(namespace(to.sigma).all(to.sigma == 0)):
            x = x + per_sample(to.sigma * gamma, x) * namespace(x).astype(like(noise(index + 1), x), x.dtype)
        yield Jump(index, at, to, x, estimate)
