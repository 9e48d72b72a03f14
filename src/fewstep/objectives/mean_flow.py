"""MeanFlow (2505.13447) and its improved form (2512.02012): the average velocity of a flow, from data or a teacher.

The average velocity u from t to r obeys u = v − (t − r)·du/dt along the trajectory; the loss is
‖u_θ − sg(v − (t − r)·du/dt)‖², adaptively weighted. du/dt is a derivative along (v, 1, 0), v = noise − data in the
first paper and the network's own velocity in the improved one, which takes the noise out of the derivative. With
r = t this is flow matching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewstep.core.arrays import per_sample
from fewstep.core.checks import check_above_0, check_at_least
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.derivatives import Derivative, Direction
from fewstep.objectives.distances import Squared
from fewstep.objectives.flow_maps import LINEAR, adaptive, velocity, velocity_along
from fewstep.objectives.learned_guidance import LearnedGuidance, drawn, taught
from fewstep.objectives.objective import DERIVED, Batch, Loss, Objective, check_jumps, mean_loss, with_dropout
from fewstep.objectives.times import LogitNormal, Pairs, Rng, TwoTimes


@dataclass(frozen=True)
class MeanFlow(Objective):
    """A flow map trained by the differential identity of its average velocity.

    Args:
        times: distribution of t and r; logit-normal(−0.4, 1) with r ≠ t for 25 % on ImageNet's latents, (−2, 2) and
            75 % on CIFAR-10's pixels.
        teacher: the denoiser that gives v; None to learn from data.
        improved: differentiate along the network's own velocity (2512.02012 §4.1).
        power, floor: p and c of the adaptive weight; p = 1 on latents, 0.75 on pixels, c = 0.01.
        guidance: the guidance of v, whose scale becomes an input of the student; None for none.
        mixing: κ, the share of the network's own velocity in the guided one (2505.13447 eq. 20); not with a teacher.
            The paper's ω is w·(1 − κ), so that the effective scale is w, the student's input.
        derivative: how du/dt is taken.
        dropout: whether to drop activations, with one mask for u and its derivative; v is taken without.
    """

    times: Pairs = field(default_factory=lambda: TwoTimes(LogitNormal(-0.4, 1.0), 0.25))
    teacher: Estimator | None = None
    improved: bool = False
    power: float = 1.0
    floor: float = 0.01
    guidance: LearnedGuidance | None = None
    mixing: float = 0.0
    derivative: Derivative = field(default_factory=Derivative)
    dropout: bool = False
    targets: Targets = Targets.ANY
    in_float32 = DERIVED

    def __post_init__(self) -> None:
        if self.teacher is not None and self.mixing:
            raise ValueError("mixing is for training without a teacher: a teacher's velocity is guided directly")
        if self.guidance is None and self.mixing:
            raise ValueError("mixing needs guidance")
        if not 0 <= self.mixing < 1:
            raise ValueError(f"mixing must be at least 0 and below 1, got {self.mixing}")
        if self.teacher is not None:
            check_jumps("teacher", self.teacher, Targets.SAME)
        check_at_least(0, power=self.power)
        check_above_0(floor=self.floor)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        t, r = self.times.sample(rng, size)
        at, to = LINEAR.level(t), LINEAR.level(r)
        noise = rng.normal(batch.data.shape).to(batch.data.dtype)
        x = at.mix(batch.data, noise)
        cond = drawn(self.guidance, batch.cond, rng, size)
        with torch.no_grad():
            v = self._velocity(target, x, t, at, noise - batch.data, cond)
            cond = with_dropout(cond, rng, size) if self.dropout else cond
            tangent = velocity(x, t, target(x, at, at, cond)) if self.improved else v
            _, rate = velocity_along(self.derivative, target, x, t, r, cond, Direction(tangent))
            goal = v - per_sample(t - r, x) * rate
        squared = Squared()(velocity(x, t, student(x, at, to, cond)), goal)
        return mean_loss(adaptive(squared, self.power, self.floor), at, tangent=rate.square().mean().sqrt())

    def _velocity(
        self, target: Estimator, x: Tensor, t: Tensor, at: Level, v: Tensor, cond: Mapping[str, Tensor]
    ) -> Tensor:
        """The sampled velocity v or the teacher's, with guidance."""
        if self.teacher is not None:
            return velocity(x, t, taught(self.guidance, self.teacher, cond)(x, at, at, cond))
        if self.guidance is None:
            return v
        alone = velocity(x, t, target(x, at, at, self.guidance.without(cond)))
        v = alone + per_sample(cond["guidance"], x) * (v - alone)
        if self.mixing:
            v = v + self.mixing * (velocity(x, t, target(x, at, at, cond)) - v)
        return v
