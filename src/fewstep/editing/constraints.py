"""Editing as a constraint on the data estimate between jumps (2303.01469 alg. 4).

Every sampler that uses data estimates can be made to respect constraints: `Constrained` applies a constraint to an
estimator's output, so that the consistency, Euler and Heun samplers edit without knowing it.

Replacing what is known does not sample the conditional distribution in few steps: the free part sees the known part
only through the noise that it is mixed with. For a Gaussian the loop has a closed form, which the tests compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fewstep.core.arrays import Array, ArrayT, Condition, like, namespace
from fewstep.core.levels import Level
from fewstep.core.parameterisations import EstimatorWrapper


class Constraint(Protocol):
    """A constraint on the data."""

    def __call__(self, estimate: ArrayT, at: Level) -> ArrayT:
        """Map a data estimate [b, ...] at a level [b] to one that satisfies the constraint."""
        ...


class Measurement(Protocol):
    """What is known of the data, as an orthogonal projection P of them; also a constraint."""

    def gap(self, estimate: ArrayT) -> ArrayT:
        """P·(data − estimate) [b, ...]: 0 if the estimate agrees with what is known."""
        ...

    def __call__(self, estimate: ArrayT, at: Level) -> ArrayT:
        """The estimate with the known part replaced: estimate + gap."""
        ...


@dataclass(frozen=True)
class Constrained(EstimatorWrapper):
    """An estimator whose estimates satisfy a constraint.

    Args:
        estimator: the estimator to constrain.
        constraint: applied to each of its estimates.
    """

    constraint: Constraint

    def __call__(self, x: ArrayT, at: Level, to: Level, cond: Condition) -> ArrayT:
        return self.constraint(self.estimator(x, at, to, cond), at)


@dataclass(frozen=True)
class Known:
    """Some of the data are known: D ← known·(1 − Ω) + D·Ω (2303.01469 alg. 4 with A = identity: inpainting).

    P = 1 − Ω; the sum is written so that known values are returned bit for bit.

    Args:
        data: the known values [b, ...] or [1, ...], as data (after the codec).
        free: Ω, shaped like data: 1 where the estimate is used and 0 where the data are.
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
        """The data and Ω in the array namespace and precision of the estimate."""
        xp = namespace(estimate)
        data, free = (xp.astype(like(values, estimate), estimate.dtype) for values in (self.data, self.free))
        return data, free
