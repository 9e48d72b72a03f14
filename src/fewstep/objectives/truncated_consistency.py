"""Truncated consistency models (2410.14895): the second stage, which does not have to denoise low levels.

A frozen consistency function from the first stage gives the estimates below the level t'; the student is trained only
above it, on its own estimates there and, at the boundary, on those of the first stage. The loss is that of Easy
Consistency Tuning in two parts: consistency above t', and the boundary, without which any constant would do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fewstep.core.checks import check_above_0
from fewstep.core.levels import CLEAN, Path, from_ratio
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock, EctGap
from fewstep.objectives.distances import Distance, PseudoHuber
from fewstep.objectives.objective import (
    COMPARED,
    Batch,
    Loss,
    Objective,
    check_jumps,
    mean_loss,
    noised,
    on_path,
    with_dropout,
)
from fewstep.objectives.times import Density, LogStudentT, Rng


@dataclass(frozen=True)
class TruncatedConsistency(Objective):
    """A consistency function for noise levels above t' only, which can therefore be better there.

    Args:
        first: the frozen consistency function of the first stage; the student should start as its copy.
        boundary: t', in σ/α; 1 in the paper.
        density: distribution of σ/α above t'; None for Student's t.
        share: share of samples at t' itself; 0.25 in the paper.
        weight: weight of their part of the loss; 0.1 in the paper.
        gap: curriculum of the gap between t and the target's level; the paper continues with the last stage of the
            first training.
        distance: distance between the two estimates.
        path: the noise path, which sets the scale of x; None is VE.
        dropout: whether to drop activations, with one mask for both estimates of the student.
    """

    first: Estimator
    boundary: float = 1.0
    density: Density | None = None
    share: float = 0.25
    weight: float = 0.1
    gap: EctGap = field(default_factory=lambda: EctGap(first=7, stages=1))
    distance: Distance = field(default_factory=PseudoHuber)
    path: Path | None = None
    dropout: bool = False
    targets: Targets = Targets.CLEAN
    in_float32 = COMPARED

    def __post_init__(self) -> None:
        check_jumps("first", self.first, Targets.CLEAN)
        if not 0 < self.share < 1:
            raise ValueError(f"share must be above 0 and below 1, for both parts of the loss, got {self.share}")
        check_above_0(boundary=self.boundary, weight=self.weight)
        if isinstance(self.density, LogStudentT) and self.density.low != self.boundary:
            raise ValueError(f"density.low must be the boundary {self.boundary:g}, got {self.density.low:g}")

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        edge = rng.uniform((size,)) < self.share
        density = LogStudentT(low=self.boundary) if self.density is None else self.density
        drawn = density.sample(rng, size).double().clamp(min=self.boundary)
        ratio_t = torch.where(edge, self.boundary, drawn)
        ratio_r = self.gap.lower(ratio_t, clock)
        x_t, t, noise = noised(batch.data, ratio_t, rng, self.path)
        r = on_path(from_ratio(ratio_r), self.path)
        x_r, clean = r.mix(batch.data, noise), CLEAN.like(t.sigma).batch(size)
        cond = with_dropout(batch.cond, rng, size) if self.dropout else batch.cond
        below = ratio_r < self.boundary
        with torch.no_grad():
            answer = target(x_r, r, clean, cond)
            earlier = {name: values[below] for name, values in batch.cond.items()}
            answer[below] = self.first(x_r[below], r[below], clean[below], earlier)
        per_sample = self.distance(student(x_t, t, clean, cond), answer)
        part = torch.where(edge, self.weight / self.share, 1 / (1 - self.share))
        per_sample = per_sample * (part / (ratio_t - ratio_r)).to(per_sample.dtype)
        return mean_loss(per_sample, t, edge=per_sample.detach()[edge].sum() / size)
