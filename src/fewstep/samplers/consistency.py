"""Consistency sampling in 1 … N steps (2303.01469 alg. 1), with the noise kept, renewed or a mixture of both.

γ is the share of fresh noise, as in CTM (2310.02279 alg. 2): 1 re-noises with fresh noise (multistep consistency
sampling), 0 keeps the noise that the estimate implies, so that the result is a function of the start.

With an exact consistency function, only γ = 1 preserves the distribution of the data: with γ < 1, the noise that is
kept is the noise that produced the estimate, and the two add up to more variance than the level has. (CTM jumps with
the estimate for the next level itself, which a model that only jumps to clean does not provide.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from fewstep.core.arrays import Array, Condition, like, namespace, per_sample
from fewstep.core.checks import check_share
from fewstep.core.jump import Jump, consecutive, implied_noise
from fewstep.core.levels import CLEAN, Level
from fewstep.core.parameterisations import Estimator, Targets, require_targets

NoiseSource = Callable[[int], Array]
"""Fresh noise [b, ...] for a draw number; draw 0 is the start."""


def consistency(
    estimator: Estimator,
    x: Array,
    levels: Level,
    cond: Condition,
    noise: NoiseSource,
    gamma: float = 1.0,
) -> Iterator[Jump]:
    """Jump to clean, re-noise to the next level, and repeat.

    Args:
        estimator: a consistency function or a flow map.
        x: [b, ...] the state at the first level.
        levels: N + 1 levels [N + 1], from the noisiest to clean.
        cond: the network's conditions.
        noise: fresh noise; draws 1 … N − 1 are used where gamma > 0.
        gamma: the share of fresh noise, in [0, 1].

    Yields:
        N jumps, one evaluation each.

    Raises:
        UnsupportedTarget: the model cannot jump to clean.
        ValueError: gamma is outside [0, 1].
    """
    require_targets(estimator, Targets.CLEAN, "consistency")
    check_share("gamma", gamma)
    clean = CLEAN.batch(x.shape[0])
    for index, at, to in consecutive(levels, x.shape[0]):
        estimate = estimator(x, at, clean, cond)
        x = renoise(x, at, to, estimate, noise, index + 1, gamma, estimator.epsilon)
        yield Jump(index, at, to, x, estimate)


def renoise(
    x: Array,
    at: Level,
    to: Level,
    estimate: Array,
    noise: NoiseSource,
    draw: int,
    gamma: float = 1.0,
    epsilon: float = 0.0,
) -> Array:
    """Bring an estimate of clean data to the level `to`: α'·D + s·(√(1 − γ²)·implied + γ·fresh noise).

    s = √(σ'² − (α'·ε)²): an estimate at the boundary ε already contains that much noise.
    """
    xp = namespace(to.sigma)
    spread = xp.sqrt(xp.clip(to.sigma**2 - (to.alpha * epsilon) ** 2, 0.0, float("inf")))
    renewed = per_sample(to.alpha, x) * estimate
    if bool(xp.all(spread == 0)):
        return renewed
    if gamma < 1.0:
        renewed = renewed + per_sample(spread * math.sqrt(1 - gamma**2), x) * implied_noise(x, at, estimate)
    if gamma > 0.0:
        renewed = renewed + per_sample(spread * gamma, x) * namespace(x).astype(like(noise(draw), x), x.dtype)
    return renewed
