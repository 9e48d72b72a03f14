"""Consistency training without a teacher: CT (2303.01469 alg. 3) and its improved form iCT (2310.14189).

x_t and x_r have the same noise at neighbouring levels t > r of a grid that becomes finer; the loss is
λ(t, r)·d(f_θ(x_t, t), sg f_θ⁻(x_r, r)). CT and iCT are two settings of this one file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fewstep.core.arrays import batch_of, like
from fewstep.core.checks import check_above_0
from fewstep.core.grids import check_range, karras
from fewstep.core.levels import CLEAN, Path, from_ratio
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock, ct_levels, ct_target_decay, ict_levels
from fewstep.objectives.distances import Distance, PseudoHuber, Squared, inverse_gap
from fewstep.objectives.objective import COMPARED, Batch, Loss, Objective, mean_loss, noised, on_path, with_dropout
from fewstep.objectives.times import Rng, choose, lognormal_weights, uniform_weights


@dataclass(frozen=True)
class ConsistencyTraining(Objective):
    """The student learns from data alone to give the same estimate along each trajectory.

    The defaults are iCT's; `ct()` gives the first paper's.

    Args:
        levels: N(k), the number of grid levels at a step.
        decay: μ(k) of the target's moving average; None uses the student itself as target, as iCT does.
        distance: d.
        weights: the probability of each interval of the grid, up to a factor.
        gap_weight: whether λ = 1/(t − r) (iCT), else 1 (CT).
        sigma_min, sigma_max, rho: the Karras grid.
        path: the noise path, which sets the scale of x; None is VE.
        dropout: whether to drop activations, with one mask for both branches.
    """

    levels: Callable[[Clock], int] = ict_levels
    decay: Callable[[Clock], float] | None = None
    distance: Distance = field(default_factory=PseudoHuber)
    weights: Callable[[Any], Any] = lognormal_weights
    gap_weight: bool = True
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    path: Path | None = None
    dropout: bool = False
    targets: Targets = Targets.CLEAN
    in_float32 = COMPARED

    def __post_init__(self) -> None:
        check_range(self.sigma_min, self.sigma_max)
        check_above_0(rho=self.rho)

    @classmethod
    def ct(cls, distance: Distance | None = None, **settings: Any) -> ConsistencyTraining:
        """The first paper's settings; the paper uses LPIPS as distance, the default here is the squared distance."""
        chosen: dict[str, Any] = {"levels": ct_levels, "decay": ct_target_decay, "weights": uniform_weights}
        return cls(**{**chosen, "distance": distance or Squared(), "gap_weight": False, **settings})

    def target_decay(self, clock: Clock) -> float | None:
        return None if self.decay is None else self.decay(clock)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        rising = karras(self.levels(clock), self.sigma_min, self.sigma_max, self.rho)[:-1][::-1]
        grid = np.array(rising.ratio)
        interval = choose(self.weights(grid), rng.uniform((size,)))
        ratios = like(grid, batch.data)
        x_t, t, noise = noised(batch.data, ratios[interval + 1], rng, self.path)
        r = on_path(from_ratio(ratios[interval]), self.path)
        clean = CLEAN.like(t.sigma).batch(size)
        cond = with_dropout(batch.cond, rng, size) if self.dropout else batch.cond
        with torch.no_grad():
            answer = target(r.mix(batch.data, noise), r, clean, cond)
        estimate = student(x_t, t, clean, cond)
        per_sample = self.distance(estimate, answer)
        if self.gap_weight:
            per_sample = per_sample * batch_of(inverse_gap(t.ratio, r.ratio), per_sample)
        return mean_loss(per_sample, t)
