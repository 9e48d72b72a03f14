"""Continuous-time consistency: sCT from data and sCD from a teacher (2410.11081), and the first paper's plain form
(2303.01469 app. B.2).

A consistency function is constant along every trajectory: dD/dt = 0. On the trig path the loss is
‖(D_θ − sg D_θ)/(σd·sin t) + g‖²/dim with the tangent g = cos t·[(1 − ρ)·cot t·(D − D̂) + ρ·dD/dt], where D̂ is
the teacher's estimate or the data, and ρ warms up from the denoiser's tangent to the whole; g is normalised and the
loss weighted by a learned e^{w(t)}, less w(t). Its value says little: what it moves is g.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fewstep.core.arrays import divide, per_sample
from fewstep.core.checks import check_above_0, check_at_least
from fewstep.core.levels import CLEAN, Trig
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock, linear_warmup
from fewstep.objectives.derivatives import Derivative, Direction
from fewstep.objectives.flow_maps import normalised
from fewstep.objectives.learned_guidance import LearnedGuidance, drawn, taught
from fewstep.objectives.objective import DERIVED, Batch, Loss, Objective, check_jumps, mean_loss, noised, with_dropout
from fewstep.objectives.times import Density, LogNormal, Rng


class LearnedWeight(nn.Module):
    """w(t): a linear function of sines and cosines of t [b], initially 0."""

    def __init__(self, waves: int = 16) -> None:
        super().__init__()
        self.waves = waves
        self.mix = nn.Linear(2 * waves, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * torch.arange(1, self.waves + 1, device=t.device)
        weight: Tensor = self.mix(torch.cat([angles.cos(), angles.sin()], dim=1).to(self.mix.weight.dtype))[:, 0]
        return weight


@dataclass(frozen=True)
class ContinuousConsistency(Objective):
    """A consistency function, trained so that its derivative along trajectories is 0.

    Args:
        teacher: the denoiser that gives D̂ (sCD); None uses the data (sCT).
        density: distribution of σ/α; in sCM N(−1.0, 1.4²) in ln σ from data, N(−0.8, 1.6²) on ImageNet's latents.
        warmup: steps in which ρ rises to 1; 10 000 in the paper.
        floor: c of g/(‖g‖ + c), with the root mean square as norm; 0.1 in the paper. None leaves g as it is.
        weight: the learned weight; None for 1.
        guidance: the teacher's guidance, whose scale becomes an input of the student; None for none.
        sigma_data: σd.
        derivative: how dD/dt is taken.
        dropout: whether to drop activations, with one mask for D and its derivative.
    """

    teacher: Estimator | None = None
    density: Density = field(default_factory=lambda: LogNormal(-1.0, 1.4))
    warmup: int = 10_000
    floor: float | None = 0.1
    weight: LearnedWeight | None = field(default_factory=LearnedWeight, compare=False)
    guidance: LearnedGuidance | None = None
    sigma_data: float = 0.5
    derivative: Derivative = field(default_factory=Derivative)
    dropout: bool = False
    targets: Targets = Targets.CLEAN
    in_float32 = DERIVED

    def __post_init__(self) -> None:
        if self.guidance is not None and self.teacher is None:
            raise ValueError("guidance needs a teacher: data alone give no unconditional estimate")
        if self.teacher is not None:
            check_jumps("teacher", self.teacher, Targets.SAME)
        if self.floor is not None:
            check_above_0(floor=self.floor)
        check_at_least(0, warmup=self.warmup)
        check_above_0(sigma_data=self.sigma_data)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {} if self.weight is None else {"weight": self.weight}

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size, path = batch.data.shape[0], Trig(self.sigma_data)
        x, at, _ = noised(batch.data, self.density.sample(rng, size), rng, path)
        t, clean = torch.as_tensor(path.time(at)), CLEAN.like(at.sigma).batch(size)
        cond = drawn(self.guidance, batch.cond, rng, size)
        sin, cos = (per_sample(values, x) for values in (t.sin(), at.alpha))
        with torch.no_grad():
            flow = batch.data
            if self.teacher is not None:
                flow = taught(self.guidance, self.teacher, cond)(x, at, at, cond)
            cond = with_dropout(cond, rng, size) if self.dropout else cond
            along = Direction(divide(cos * x - flow, sin))
            estimate, rate = self.derivative(target, path, x, t, t * 0, cond, along)
            rho = linear_warmup(clock, self.warmup)
            raw = cos * ((1 - rho) * cos * divide(estimate - flow, sin) + rho * rate)
            tangent = normalised(raw, self.floor)
        learned = student(x, at, clean, cond)
        moved = divide(learned - learned.detach(), self.sigma_data * sin) + tangent
        per_sample_loss = moved.square().flatten(1).sum(dim=1) / math.prod(x.shape[1:])
        if self.weight is not None:
            weight = self.weight(t)
            per_sample_loss = weight.exp() * per_sample_loss - weight
        return mean_loss(per_sample_loss, at, tangent=raw.square().mean().sqrt())
