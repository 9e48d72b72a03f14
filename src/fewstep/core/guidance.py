"""Classifier-free guidance (2207.12598) as a function from Estimator to Estimator, with an interval (2404.07724)."""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.core.arrays import ArrayLike, ArrayT, Condition, batch_of, like, namespace, per_sample
from fewstep.core.levels import Level
from fewstep.core.parameterisations import EstimatorWrapper


@dataclass(frozen=True)
class Guided(EstimatorWrapper):
    """D = D_∅ + w·(D_c − D_∅): an estimator again.

    Computed as D_c + (w − 1)·(D_c − D_∅), so that w = 1, and levels outside the interval, give D_c to the bit.
    Both estimates come from one call with twice the batch.

    Args:
        estimator: what is guided.
        null: the condition of D_∅ (an empty or a negative prompt), each array [b, ...] or [1, ...].
        weight: w, one number or [b].
        low, high: guide only where low < σ/α ≤ high; elsewhere D_c.
    """

    null: Condition
    weight: ArrayLike
    low: float = 0.0
    high: float = float("inf")

    def __call__(self, x: ArrayT, at: Level, to: Level, cond: Condition) -> ArrayT:
        xp = namespace(x)
        size = x.shape[0]
        at, to = at.batch(size), to.batch(size)
        with_null = {
            name: xp.concat([values, xp.broadcast_to(self.null.get(name, values), values.shape)])
            for name, values in cond.items()
        }
        both = self.estimator(xp.concat([x, x]), _twice(at), _twice(to), with_null)
        conditional, unconditional = both[:size], both[size:]
        inside = (at.ratio > self.low) & (at.ratio <= self.high)
        extra = xp.where(like(inside, x), batch_of(self.weight, x) - 1, xp.zeros_like(batch_of(0.0, x)))
        return conditional + per_sample(extra, x) * (conditional - unconditional)


def _twice(level: Level) -> Level:
    xp = namespace(level.sigma)
    return Level(xp.concat([level.alpha, level.alpha]), xp.concat([level.sigma, level.sigma]))
