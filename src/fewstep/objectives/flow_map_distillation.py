"""Align Your Flow (2506.14603): a flow map distilled from a teacher's flow, by moving either end of its jump.

With the jump x_r = f(x, t, r) = x − (t − r)·u, the map is right if f does not change as its start moves along the
trajectory (Eulerian: u = v(x, t) − (t − r)·du/dt), and if its end moves as the flow does (Lagrangian:
u = v(x_r, r) + (t − r)·∂u/∂r), where v is the teacher's velocity. The loss is ‖u_θ − sg(u + g)‖², where g is the
normalised difference between the right-hand side and u. MeanFlow with a teacher is the Eulerian form without
normalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch

from fewstep.core.arrays import per_sample
from fewstep.core.checks import check_above_0, check_at_least, check_choice
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock, linear_warmup
from fewstep.objectives.derivatives import Derivative, Direction
from fewstep.objectives.flow_maps import LINEAR, normalised, velocity, velocity_along
from fewstep.objectives.learned_guidance import LearnedGuidance, drawn, taught
from fewstep.objectives.objective import DERIVED, Batch, Loss, Objective, check_jumps, mean_loss, with_dropout
from fewstep.objectives.times import LogitNormal, Pairs, Rng, TwoTimes


@dataclass(frozen=True)
class FlowMapDistillation(Objective):
    """A flow map distilled in continuous time.

    Args:
        teacher: the frozen denoiser.
        end: which end of the jump is moved: `eulerian` the start (AYF-EMD), `lagrangian` the end (AYF-LMD).
        times: distribution of t and r; for the Lagrangian end with r above 0.
        warmup: steps in which the derivative's share rises to 1.
        floor: c of g/(‖g‖ + c), with the root mean square as norm; None leaves g as it is.
        guidance: the teacher's guidance, whose scale becomes an input of the student; None for none.
        derivative: how the derivative is taken.
        dropout: whether to drop activations, with one mask for u and its derivative.
    """

    teacher: Estimator
    end: Literal["eulerian", "lagrangian"] = "eulerian"
    times: Pairs = field(default_factory=lambda: TwoTimes(LogitNormal(-0.8, 1.0), 1.0))
    warmup: int = 10_000
    floor: float | None = 0.1
    guidance: LearnedGuidance | None = None
    derivative: Derivative = field(default_factory=Derivative)
    dropout: bool = False
    targets: Targets = Targets.ANY
    in_float32 = DERIVED

    def __post_init__(self) -> None:
        check_jumps("teacher", self.teacher, Targets.SAME)
        check_choice("end", self.end, "eulerian", "lagrangian")
        check_at_least(0, warmup=self.warmup)
        if self.end == "lagrangian" and getattr(self.times, "to_clean", False):
            raise ValueError("times must keep r above 0 for the lagrangian end: at r = 0 the teacher has no velocity")
        if self.floor is not None:
            check_above_0(floor=self.floor)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        t, r = self.times.sample(rng, size)
        at, to = LINEAR.level(t), LINEAR.level(r)
        x = at.mix(batch.data, rng.normal(batch.data.shape).to(batch.data.dtype))
        seen = drawn(self.guidance, batch.cond, rng, size)
        teacher = taught(self.guidance, self.teacher, seen)
        cond = with_dropout(seen, rng, size) if self.dropout else seen
        length = per_sample(t - r, x)
        with torch.no_grad():
            if self.end == "eulerian":
                flow = velocity(x, t, teacher(x, at, at, seen))
                u, rate = velocity_along(self.derivative, target, x, t, r, cond, Direction(flow))
                rate = -rate
            else:
                still = Direction(torch.zeros_like(x), at=0.0, to=1.0)
                u, rate = velocity_along(self.derivative, target, x, t, r, cond, still)
                x_r = x - length * u
                flow = velocity(x_r, r, teacher(x_r, to, to, seen))
            raw = flow - u + linear_warmup(clock, self.warmup) * length * rate
            tangent = normalised(raw, self.floor)
        learned = velocity(x, t, student(x, at, to, cond))
        moved = learned - learned.detach() - tangent
        per_sample_loss = moved.square().flatten(1).sum(dim=1) / math.prod(x.shape[1:])
        return mean_loss(per_sample_loss, at, tangent=raw.square().mean().sqrt())
