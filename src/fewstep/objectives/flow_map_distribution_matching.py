"""Distribution matching without a fake network (after 2605.19256): a flow map has a velocity of its own.

As in DMD2, the student's samples move by the difference of two estimates at a re-noised x_s, D_fake − D_real. D_fake
is the student's own denoiser, its jump to the same level, D(x_s, s, s): one network is generator and fake score.
Without training on the student's samples, the denoiser of a map distilled from the teacher would equal the teacher's
and give no signal; so it is trained on them in the same step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fewstep.core.checks import check_above_0
from fewstep.core.levels import CLEAN, Path
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.distribution_matching import check_falling, denoising, moving, simulated, towards
from fewstep.objectives.learned_guidance import LearnedGuidance, drawn, taught
from fewstep.objectives.objective import Batch, Loss, Objective, check_jumps, mean_loss, noised, with_dropout
from fewstep.objectives.times import Density, Rng, UniformKarras


@dataclass(frozen=True)
class FlowMapDistributionMatching(Objective):
    """A few-step generator trained by the difference of the teacher's score and its own. Of the batch only conditions
    and shapes are used.

    Args:
        teacher: the frozen denoiser, the real score.
        ratios: σ/α of the student's jumps, descending from pure noise, one per sampling step.
        density: distribution of the σ/α where the scores are compared, and where the student learns its own score.
        weight: weight of the loss of its own score.
        guidance: the teacher's guidance, whose scale becomes an input of the student; None for none.
        sigma_data: σd of the weight of levels.
        path: the noise path, which sets the scale of x; None is VE.
        dropout: whether to drop activations, with one mask for all jumps.
    """

    teacher: Estimator
    ratios: tuple[float, ...] = (80.0,)
    density: Density = field(default_factory=UniformKarras)
    weight: float = 1.0
    guidance: LearnedGuidance | None = None
    sigma_data: float = 0.5
    path: Path | None = None
    dropout: bool = False
    targets: Targets = Targets.ANY

    def __post_init__(self) -> None:
        check_jumps("teacher", self.teacher, Targets.SAME)
        check_falling(self.ratios)
        check_above_0(weight=self.weight, sigma_data=self.sigma_data)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        cond = drawn(self.guidance, batch.cond, rng, size)
        own = with_dropout(cond, rng, size) if self.dropout else cond
        x, at = simulated(target, self.ratios, batch.data, self.path, own, rng)
        sample = student(x, at, CLEAN.like(at.sigma).batch(size), own)
        x_s, s, _ = noised(sample.detach(), self.density.sample(rng, size), rng, self.path)
        fake = student(x_s, s, s, own)
        with torch.no_grad():
            real = taught(self.guidance, self.teacher, cond)(x_s, s, s, cond)
            step = towards(sample, real, fake)
        per_sample = moving(sample, step) + self.weight * denoising(fake, sample.detach(), s, self.sigma_data)
        return mean_loss(per_sample, s, score_gap=step.square().mean().sqrt())
