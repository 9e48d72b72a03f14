"""Flow matching on the linear path (2210.02747 eq. 23, 2209.03003 eq. 1).

Loss: ‖v − (noise − data)‖² with v = (x − D)/t, which is ‖D(x, s, s) − data‖²/t²: the diffusion loss with another
weight and density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fewstep.core.arrays import batch_of
from fewstep.core.levels import Linear
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.distances import Squared
from fewstep.objectives.objective import Batch, Loss, Objective, mean_loss, noised, with_dropout
from fewstep.objectives.times import Density, LogitNormal, Rng


@dataclass(frozen=True)
class FlowMatching(Objective):
    """Regression of the linear path's velocity.

    Args:
        density: distribution of σ/α = t/(1 − t); Stable Diffusion 3 uses logit-normal(0, 1) in t (2403.03206).
        dropout: whether to drop activations.
    """

    density: Density = field(default_factory=lambda: LogitNormal(0.0, 1.0))
    dropout: bool = False
    targets: Targets = Targets.SAME

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        ratio = self.density.sample(rng, batch.data.shape[0])
        x, at, _ = noised(batch.data, ratio, rng, Linear())
        cond = with_dropout(batch.cond, rng, x.shape[0]) if self.dropout else batch.cond
        estimate = student(x, at, at, cond)
        distance = Squared()(estimate, batch.data) / math.prod(batch.data.shape[1:])
        return mean_loss(distance * batch_of(1 / at.sigma**2, distance), at)
