"""Editing as a constraint on the data estimate between jumps (2303.01469 alg. 4).

Every sampler that moves along data estimates can be told what the data must be: `Constrained` puts a constraint
behind an estimator, and consistency, Euler and Heun then edit without knowing it.

Replacing what is known does not sample the conditional distribution in few steps: the free part sees the known one
only through the noise it is mixed with. On a Gaussian the loop has a closed form, which the tests hold it to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fewstep.core.arrays import Array, ArrayT, Condition, like, namespace
from fewstep.core.levels import Level
from fewstep.core.parameterisations import EstimatorWrapper


class Constraint(Protocol):
    """What the data must be."""

    def __call__(self, estimate: ArrayT, at: Level) -> ArrayT:
        """A data estimate [b, ...] at a level [b] to one that obeys the edit."""
        ...


class Measurement(Protocol):
    """What is known of the data: an orthogonal projection P of them. A constraint, and more."""

    def gap(self, estimate: ArrayT) -> ArrayT:
        """P·(data − estimate) [b, ...]: 0 where the estimate has what is known."""
        ...

    def __call__(self, estimate: ArrayT, at: Level) -> ArrayT:
        """The estimate with what is known in its place: estimate + gap."""
        ...


@dataclass(frozen=True)
class Constrained(EstimatorWrapper):
    """An estimator whose estimates obey a constraint: an estimator again.

    Args:
        estimator: what is constrained.
        constraint: applied to each of its estimates.
    """

    constraint: Constraint

    def __call__(self, x: ArrayT, at: Level, to: Level, cond: Condition) -> ArrayT:
        return self.constraint(self.estimator(x, at, to, cond), at)


@dataclass(frozen=True)
class Known:
    """Some of the data are known: D ← known·(1 − Ω) + D·Ω (2303.01469 alg. 4 with A = identity: inpainting).

    P = 1 − Ω; the sum is written so that what is known comes back to the bit.

    Args:
        data: [b, ...] or [1, ...] what is known, as data (after the codec).
        free: Ω, like data, 1 where the estimate decides and 0 where the data do.
    """

    data: Array
    free: Array

    def gap(self, estimate: ArrayT) -> ArrayT:
        """(known − estimate)·(1 − Ω) [b, ...]."""
        known, free = self._like(estimate)
        return (known - estimate) * (1 - free)

    def __call__(self, estimate: ArrayT, at: Level) -> ArrayT:
        known, free = self._like(estimate)
        return known * (1 - free) + estimate * free

    def _like(self, estimate: ArrayT) -> tuple[ArrayT, ArrayT]:
        """The data and Ω in the estimate's namespace and precision."""
        xp = namespace(estimate)
        data, free = (xp.astype(like(values, estimate), estimate.dtype) for values in (self.data, self.free))
        return data, free
