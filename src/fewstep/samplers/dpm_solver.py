"""DPM-Solver++(2M) (2211.01095 alg. 2): second order in the logarithm of α/σ, one evaluation per step.

Each step is a jump with an estimate extrapolated from the current and the previous one, D + (h/2h')·(D − D'), where h
and h' are the lengths of the current and the previous step in ln(α/σ). A step from pure noise or to clean has
infinite length; it uses its own estimate alone, as the last step does in common implementations.
"""

from __future__ import annotations

from collections.abc import Iterator

from fewstep.core.arrays import Array, Condition, divide, namespace, per_sample
from fewstep.core.jump import Jump, consecutive, jump
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets, require_targets


def dpm_solver(estimator: Estimator, x: Array, levels: Level, cond: Condition) -> Iterator[Jump]:
    """Take N multistep jumps.

    Args:
        estimator: a denoiser or a flow map.
        x: [b, ...] the state at the first level.
        levels: N + 1 levels [N + 1], from the noisiest to clean.
        cond: the network's conditions.

    Yields:
        N jumps, one evaluation each; `estimate` is the denoiser's own.

    Raises:
        UnsupportedTarget: the model is not a denoiser.
    """
    require_targets(estimator, Targets.SAME, "dpm_solver")
    before: tuple[Array, Array] | None = None
    for index, at, to in consecutive(levels, x.shape[0]):
        estimate = estimator(x, at, at, cond)
        length = _length(at, to)
        aimed = estimate
        if before is not None:
            last, last_length = before
            share = divide(length, 2 * last_length)
            aimed = estimate + per_sample(share, x) * (estimate - last)
        x = jump(x, at, to, aimed)
        before = estimate, length
        yield Jump(index, at, to, x, estimate)


def _length(at: Level, to: Level) -> Array:
    """h = ln(α'/σ') − ln(α/σ), or 0 where it is infinite, so that nothing is extrapolated over or from that step."""
    xp = namespace(at.sigma)
    finite = (at.alpha > 0) & (to.sigma > 0)
    quotient = divide(to.alpha * at.sigma, to.sigma * at.alpha)
    return xp.log(xp.where(finite, quotient, xp.ones_like(quotient)))
