"""Training schedules as pure functions of the clock, in each paper's notation.

k is the step and K the number of steps: consistency training (2303.01469 app. C), its improved form
(2310.14189 §3.4) and Easy Consistency Tuning (2406.14548 §3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fewstep.core.arrays import ArrayT, namespace
from fewstep.core.checks import check_at_least

FINEST_GAP = 1e-6
"""The smallest gap, relative to the level: about ten float32 rounding steps."""


@dataclass(frozen=True)
class Clock:
    """The progress of a training.

    Args:
        step: optimiser steps done, 0 at the first step.
        steps: total number of optimiser steps.
        images: training images seen.
    """

    step: int
    steps: int
    images: int = 0

    @property
    def fraction(self) -> float:
        """The completed share of the training, in [0, 1]."""
        return min(1.0, self.step / max(1, self.steps))


def ct_levels(clock: Clock, s0: int = 2, s1: int = 150) -> int:
    """N(k) = ⌈√(k/K·((s1 + 1)² − s0²) + s0²) − 1⌉ + 1 (2303.01469 app. C); s1 = 150 at 32², 200 at 64²."""
    return math.ceil(math.sqrt(clock.fraction * ((s1 + 1) ** 2 - s0**2) + s0**2) - 1) + 1


def ct_target_decay(clock: Clock, s0: int = 2, s1: int = 150, mu0: float = 0.9) -> float:
    """μ(k) = exp(s0·ln μ0/N(k)) (2303.01469 app. C); μ0 = 0.9 at 32², 0.95 at 64²."""
    return math.exp(s0 * math.log(mu0) / ct_levels(clock, s0, s1))


def ict_levels(clock: Clock, s0: int = 10, s1: int = 1280) -> int:
    """N(k) = min(s0·2^⌊k/K'⌋, s1) + 1 with K' = ⌊K/(log2⌊s1/s0⌋ + 1)⌋ (2310.14189 §3.4)."""
    if not 1 <= s0 <= s1:
        raise ValueError(f"need 1 <= s0 <= s1, got {s0} and {s1}")
    doublings = math.log2(s1 // s0)
    period = max(1, math.floor(clock.steps / (doublings + 1)))
    return int(min(s0 * 2 ** min(clock.step // period, 62), s1)) + 1


@dataclass(frozen=True)
class EctGap:
    """ECT's gap between the two levels (2406.14548 eq. 20 and §3.3), in σ/α:

    r = t·max(0, 1 − n(t)/q^a), n(t) = 1 + k·sigmoid(−b·t), a = stage + 1, which begins near diffusion (mostly r = 0)
    and tends to Δt = dt with each stage.

    Args:
        q: How fast the gap shrinks: 2 at 32² (256 in the one-hour recipe), 4 at 64².
        stages: Number of stages of equal length that the training is divided into.
        k: Constant k of n(t).
        b: Constant b of n(t).
        first: The first stage of the training.
    """

    q: float = 2.0
    stages: int = 8
    k: float = 8.0
    b: float = 1.0
    first: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, q=self.q, stages=self.stages)
        check_at_least(0, k=self.k, first=self.first)
        last = self.first + self.stages
        if self.q**-last < FINEST_GAP:
            raise ValueError(
                f"the last gap must be at least {FINEST_GAP:g} of the level, or float32 cannot tell the two levels "
                f"apart, got {self.q:g}^-{last} = {self.q**-last:.1g}: use fewer stages or a smaller q"
            )

    def stage(self, clock: Clock) -> int:
        """a − 1: the stage at this step."""
        return self.first + min(self.stages - 1, math.floor(clock.fraction * self.stages))

    def shrink(self, clock: Clock) -> float:
        """1/q^a."""
        return float(self.q ** -(self.stage(clock) + 1))

    def lower(self, t: ArrayT, clock: Clock) -> ArrayT:
        """r for ratios t of any shape: 0 ≤ r < t."""
        sigmoid = 0.5 * (1 - namespace(t).tanh(0.5 * self.b * t))
        return t * namespace(t).clip(1 - (1 + self.k * sigmoid) * self.shrink(clock), 0.0, 1.0)


def linear_warmup(clock: Clock, steps: int) -> float:
    """min(1, (k + 1)/steps), so that the first step counts; 1 where steps is 0."""
    return 1.0 if steps <= 0 else min(1.0, (clock.step + 1) / steps)


def cosine_decay(clock: Clock, start: float = 0.0, floor: float = 0.0) -> float:
    """1 up to the fraction `start` of training, then a half cosine down to `floor`."""
    if clock.fraction <= start or start >= 1.0:
        return 1.0
    progress = (clock.fraction - start) / (1.0 - start)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
