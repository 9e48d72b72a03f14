"""Starting noise that fits what is known: the noise is corrected until the estimate agrees with the data.

A consistency function f maps noise to data in one jump, so knowledge of the data constrains the noise. Among the
starts whose estimate agrees, the one nearest to a random start is a draw from the conditional distribution if f is
linear (Matheron's rule: Hoffman & Ribak 1991), and close to one otherwise (randomise-then-optimise: Bardsley et al.
2014). With replacement alone (`Known`), the free part is informed of the known part only between jumps.

The corrections are conjugate gradient steps for the nearest solution (Craig's method): with r = P·(known − f(x)),
where P is the orthogonal projection on what is known,

    p ← Jᵀr + (‖r‖²/‖r_before‖²)·p,     x ← x + (‖r‖²/‖p‖²)·p

The Jacobian of f is symmetric for Gaussian data and nearly so for images, so Jᵀr ≈ J·r, a difference of two
estimates, without a backward pass through the network. Where f is nonlinear, a step can increase the residual; it is
then undone, and the next step is shorter and restarts the conjugate gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fewstep.core.arrays import Array, ArrayT, Condition, batch_of, divide, namespace, per_sample, reciprocal
from fewstep.core.checks import check_at_least
from fewstep.core.levels import Level
from fewstep.core.parameterisations import EstimatorWrapper, Targets, require_targets
from fewstep.editing.constraints import Measurement

PROBE = 0.2
"""The distance between the two points of a finite difference: the root mean square in units of σ."""

FARTHEST = 4.0
"""How much ‖r‖² may grow in one step: with Craig's method it need not fall every time."""

SHORTER = 0.3
"""The factor by which a sample's next step is shorter after one that was undone."""


@dataclass(frozen=True)
class Fitted(EstimatorWrapper):
    """A consistency function that searches for noise whose estimate agrees with what is known.

    Args:
        estimator: a consistency function or a flow map.
        known: what its estimates should agree with; the known part is not replaced, which is up to `Constrained`.
        times: corrections of each estimate, at two evaluations each. Each sample gets the best of its estimates, the
            one nearest to what is known.

    Raises:
        UnsupportedTarget: the estimator is a denoiser.
        ValueError: times is negative.
    """

    known: Measurement
    times: int = 1

    def __post_init__(self) -> None:
        check_at_least(0, times=self.times)
        require_targets(self.estimator, Targets.CLEAN, "fitting")

    def __call__(self, x: ArrayT, at: Level, to: Level, cond: Condition) -> ArrayT:
        """The corrected estimate, at 1 + 2·times evaluations."""
        xp = namespace(x)
        best = estimate = self.estimator(x, at, to, cond)
        gap = self.known.gap(estimate)
        least = squared = before = _squared(gap)
        along, share = x * 0, squared * 0 + 1
        for _ in range(self.times):
            along = self._slope(x, at, to, cond, estimate, gap) + per_sample(divide(squared, before), x) * along
            moved = x + per_sample(share * divide(squared, _squared(along)), x) * along
            there = self.estimator(moved, at, to, cond)
            left = self.known.gap(there)
            reached = _squared(left)
            best, least = _where(reached < least, there, best), xp.where(reached < least, reached, least)
            kept = reached < FARTHEST * squared
            x, estimate, gap = _where(kept, moved, x), _where(kept, there, estimate), _where(kept, left, gap)
            along, share = _where(kept, along, 0 * along), xp.where(kept, share, SHORTER * share)
            before, squared = squared, xp.where(kept, reached, squared)
        return best

    def _slope(self, x: ArrayT, at: Level, to: Level, cond: Condition, estimate: ArrayT, gap: ArrayT) -> ArrayT:
        """Jᵀr."""
        size = namespace(x).sqrt(_squared(gap) / math.prod(x.shape[1:]))
        probe = divide(PROBE * batch_of(at.sigma, x), size)
        there = self.estimator(x + per_sample(probe, x) * gap, at, to, cond)
        return per_sample(reciprocal(probe), x) * (there - estimate)


def _where(which: Array, these: ArrayT, those: ArrayT) -> ArrayT:
    """The samples of `these` where `which` [b] is true, else those of `those`."""
    return namespace(these).where(which[(..., *[None] * (these.ndim - 1))], these, those)


def _squared(values: ArrayT) -> ArrayT:
    """‖·‖² of each sample [b]."""
    xp = namespace(values)
    return xp.sum(xp.reshape(values * values, (values.shape[0], -1)), axis=1)
