"""Distribution matching distillation, DMD2 (2405.14867): the student's samples match the teacher's distribution.

The student draws x as in sampling, in a few jumps of its own (backward simulation, §4.4). At a re-noised x_s the
gradient of KL(student ‖ teacher) with respect to x is the fake score minus the real score (2311.18828 eq. 7), in
terms of estimates D_fake − D_real, divided by mean |x − D_real| of the sample (eq. 8). D_real is the teacher's
estimate; D_fake, the fake score, is a second network that learns to denoise the student's samples, with several steps
for each of the student's (§4.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from fewstep.core.arrays import batch_of, namespace, per_sample, reciprocal
from fewstep.core.checks import check_at_least
from fewstep.core.levels import CLEAN, Level, Path, from_ratio
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.diffusion import edm_weight
from fewstep.objectives.learned_guidance import LearnedGuidance, drawn, taught
from fewstep.objectives.objective import (
    Batch,
    Loss,
    Objective,
    Step,
    check_jumps,
    inner_network,
    mean_loss,
    noised,
    on_path,
    with_dropout,
)
from fewstep.objectives.times import Density, Rng, UniformKarras


@dataclass(frozen=True)
class DistributionMatching(Objective):
    """A few-step generator trained by the difference of two scores. Of the batch only conditions and shapes are used.

    Args:
        teacher: the frozen denoiser, the real score.
        fake: the fake score: a trainable denoiser, initially a copy of the teacher.
        ratios: σ/α of the student's jumps, descending from pure noise, one per sampling step.
        density: distribution of the σ/α where the scores are compared.
        fake_density: distribution of the σ/α where the fake score is trained.
        every: steps of the fake score per step of the student; 5 in the paper.
        fake_rate: learning rate of the fake score, relative to the student's.
        guidance: the teacher's guidance, whose scale becomes an input of the student; None for none.
        sigma_data: σd of the fake score's weight.
        path: the noise path, which sets the scale of x; None is VE.
        dropout: whether to use dropout in the student.
    """

    teacher: Estimator
    fake: Estimator = field(compare=False)
    ratios: tuple[float, ...] = (80.0,)
    density: Density = field(default_factory=UniformKarras)
    fake_density: Density = field(default_factory=UniformKarras)
    every: int = 5
    fake_rate: float = 1.0
    guidance: LearnedGuidance | None = None
    sigma_data: float = 0.5
    path: Path | None = None
    dropout: bool = False
    targets: Targets = Targets.CLEAN

    def __post_init__(self) -> None:
        check_jumps("teacher", self.teacher, Targets.SAME)
        check_jumps("fake", self.fake, Targets.SAME)
        check_falling(self.ratios)
        check_at_least(1, every=self.every)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"fake": inner_network(self.fake)}

    @property
    def steps(self) -> Mapping[str, Step]:
        return {"student": Step(every=self.every), "fake": Step(rate=self.fake_rate)}

    def __call__(
        self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng
    ) -> Mapping[str, Loss]:
        size = batch.data.shape[0]
        cond = drawn(self.guidance, batch.cond, rng, size)
        own = with_dropout(cond, rng, size) if self.dropout else cond
        x, at = simulated(target, self.ratios, batch.data, self.path, own, rng)
        clean = CLEAN.like(at.sigma).batch(size)
        if not self.steps["student"].is_due(clock):
            with torch.no_grad():
                sample = target(x, at, clean, own)
            return {"fake": self._denoising(sample, cond, rng)}
        sample = student(x, at, clean, own)
        return {"student": self._matching(sample, cond, rng), "fake": self._denoising(sample.detach(), cond, rng)}

    def _matching(self, sample: Tensor, cond: Mapping[str, Tensor], rng: Rng) -> Loss:
        """The student's loss, whose gradient with respect to its samples is that of the divergence."""
        with torch.no_grad():
            x_s, s, _ = noised(sample, self.density.sample(rng, len(sample)), rng, self.path)
            real = taught(self.guidance, self.teacher, cond)(x_s, s, s, cond)
            step = towards(sample, real, self.fake(x_s, s, s, cond))
        return mean_loss(moving(sample, step), s, score_gap=step.square().mean().sqrt())

    def _denoising(self, sample: Tensor, cond: Mapping[str, Tensor], rng: Rng) -> Loss:
        """The fake score's loss: diffusion on the student's samples."""
        x_s, s, _ = noised(sample, self.fake_density.sample(rng, len(sample)), rng, self.path)
        return mean_loss(denoising(self.fake(x_s, s, s, cond), sample, s, self.sigma_data), s)


def check_falling(ratios: tuple[float, ...]) -> None:
    """Raise ValueError unless there is a level, and each is finite, above 0 and below the one before it."""
    falls = all(above > below for above, below in pairwise(ratios))
    if not ratios or not falls or not all(0 < ratio < math.inf for ratio in ratios):
        raise ValueError(f"ratios must be finite, above 0 and in descending order, got {ratios}")


@torch.no_grad()
def simulated(
    target: Estimator,
    ratios: tuple[float, ...],
    like: Tensor,
    path: Path | None,
    cond: Mapping[str, Tensor],
    rng: Rng,
) -> tuple[Tensor, Level]:
    """The student's state before a uniformly chosen jump of its own sampling.

    Args:
        target: the student without gradients.
        ratios: σ/α of its jumps, descending.
        like: tensor [b, ...] that gives shape, type and device.
        path: the noise path, which sets the scale of x.
        cond: the conditions.
        rng: random numbers for the choice and all noise.

    Returns:
        x [b, ...] and its level [b].
    """
    size = like.shape[0]
    levels = [on_path(from_ratio(like.new_full((size,), ratio, dtype=torch.float64)), path) for ratio in ratios]
    at, clean = levels[0], CLEAN.like(levels[0].sigma).batch(size)
    x = per_sample(at.sigma, like) * rng.normal(like.shape).to(like.dtype)
    chosen = (rng.uniform((size,)) * len(ratios)).long()
    for index, level in enumerate(levels[1:], start=1):
        fresh = level.mix(target(x, at, clean, cond), rng.normal(like.shape).to(like.dtype))
        go_on = chosen >= index
        x = torch.where(per_sample(go_on, like) != 0, fresh, x)
        xp = namespace(go_on)
        at = Level(xp.where(go_on, level.alpha, at.alpha), xp.where(go_on, level.sigma, at.sigma))
    return x, at


def towards(sample: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """The gradient of the divergence in each sample, normalised: (D_fake − D_real)/mean |x − D_real|."""
    scale = (sample - real).abs().flatten(1).mean(dim=1)
    return (fake - real) * per_sample(reciprocal(scale), sample)


def moving(sample: Tensor, gradient: Tensor) -> Tensor:
    """½·mean (x − sg(x − g))² [b], whose gradient with respect to x is g/dim."""
    return 0.5 * (sample - (sample - gradient).detach()).square().flatten(1).mean(dim=1)


def denoising(estimate: Tensor, data: Tensor, at: Level, sigma_data: float) -> Tensor:
    """The weighted squared error [b] of a denoiser."""
    squared = (estimate - data).square().flatten(1).mean(dim=1)
    return squared * batch_of(edm_weight(at, sigma_data), squared)
