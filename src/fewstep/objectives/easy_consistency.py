"""Easy Consistency Tuning (2406.14548): consistency training that begins as diffusion and needs no boundary.

t is log-normal and r = t·max(0, 1 − n(t)/q^a) (eq. 20); at r = 0 the target is the data. The loss is
w·‖f_θ(x_t, t) − sg f_θ(x_r, r)‖ with the same noise and the same dropout mask in both branches; w = 1/(t − r).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from fewstep.core.checks import check_above_0, check_choice
from fewstep.core.levels import CLEAN, Path, from_ratio
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock, EctGap
from fewstep.objectives.distances import Distance, Norm, inverse_gap
from fewstep.objectives.objective import COMPARED, Batch, Loss, Objective, mean_loss, noised, on_path, with_dropout
from fewstep.objectives.times import Density, LogNormal, Rng


@dataclass(frozen=True)
class EasyConsistency(Objective):
    """Tune a diffusion model into a consistency model.

    Args:
        density: distribution of t; ln t ~ N(−1.1, 2²) at 32², N(−0.8, 1.6²) at 64².
        gap: the curriculum of r.
        distance: the norm at 32², pseudo-Huber at 64².
        weight: `gap` is 1/(t − r) (32²), `edm` is 1/t² + 1/σd² (64²).
        sigma_data: σd of the `edm` weight.
        path: the noise path, which sets the scale of x; None is VE.
        dropout: whether to drop activations; the paper's rate is 0.2.
    """

    density: Density = field(default_factory=lambda: LogNormal(-1.1, 2.0))
    gap: EctGap = field(default_factory=EctGap)
    distance: Distance = field(default_factory=Norm)
    weight: Literal["gap", "edm"] = "gap"
    sigma_data: float = 0.5
    path: Path | None = None
    dropout: bool = True
    targets: Targets = Targets.CLEAN
    in_float32 = COMPARED

    def __post_init__(self) -> None:
        check_choice("weight", self.weight, "gap", "edm")
        check_above_0(sigma_data=self.sigma_data)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        ratio_t = self.density.sample(rng, size).double()
        ratio_r = self.gap.lower(ratio_t, clock)
        x_t, t, noise = noised(batch.data, ratio_t, rng, self.path)
        r = on_path(from_ratio(ratio_r), self.path)
        clean = CLEAN.like(t.sigma).batch(size)
        cond = with_dropout(batch.cond, rng, size) if self.dropout else batch.cond
        # at r = 0 every parameterisation returns x, and x_0 is the data
        with torch.no_grad():
            answer = target(r.mix(batch.data, noise), r, clean, cond)
        per_sample = self.distance(student(x_t, t, clean, cond), answer)
        weight = inverse_gap(ratio_t, ratio_r) if self.weight == "gap" else 1 / ratio_t**2 + 1 / self.sigma_data**2
        return mean_loss(per_sample * weight.to(per_sample.dtype), t, gap=(1 - ratio_r / ratio_t).mean())
