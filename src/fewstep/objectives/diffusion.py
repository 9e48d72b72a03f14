"""Diffusion: denoising at one level (EDM, 2206.00364 eq. 8 and table 1).

Loss: ‖D(x, s, s) − data‖²/c_out² over a log-normal of σ/α, c_out = σ·σd/√(α²σd² + σ²): the network's own output has
unit weight at every level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fewstep.core.arrays import Array, batch_of
from fewstep.core.checks import check_above_0
from fewstep.core.levels import Level, Path
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.distances import Squared
from fewstep.objectives.objective import Batch, Loss, Objective, mean_loss, noised, with_dropout
from fewstep.objectives.times import Density, LogNormal, Rng


@dataclass(frozen=True)
class Diffusion(Objective):
    """Denoising score matching in EDM's weighting.

    Args:
        density: distribution of σ/α; in EDM N(−1.2, 1.2²) in ln σ.
        sigma_data: σd of the weight.
        path: the noise path, which sets the scale of x; None is VE. Any path trains the same network.
        dropout: whether to drop activations.
    """

    density: Density = field(default_factory=LogNormal)
    sigma_data: float = 0.5
    path: Path | None = None
    dropout: bool = False
    targets: Targets = Targets.SAME

    def __post_init__(self) -> None:
        check_above_0(sigma_data=self.sigma_data)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        ratio = self.density.sample(rng, batch.data.shape[0])
        x, at, _ = noised(batch.data, ratio, rng, self.path)
        cond = with_dropout(batch.cond, rng, x.shape[0]) if self.dropout else batch.cond
        estimate = student(x, at, at, cond)
        distance = Squared()(estimate, batch.data) / math.prod(batch.data.shape[1:])
        return mean_loss(distance * batch_of(edm_weight(at, self.sigma_data), distance), at)


def edm_weight(at: Level, sigma_data: float) -> Array:
    """1/c_out² = (α²σd² + σ²)/(σ·σd)² [b] (2206.00364 table 1)."""
    return (at.magnitude(sigma_data) / (at.sigma * sigma_data)) ** 2
