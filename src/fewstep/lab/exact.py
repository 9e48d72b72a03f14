"""The exact estimator of a mixture: denoiser, flow map and consistency function in one call, for figures and
measurements without training.

The denoiser has a closed form; the rest follows its probability flow dy/dκ = D, solved by Heun's method in many small
steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fewstep.core.arrays import Condition, per_sample
from fewstep.core.jump import connecting_estimate, heun_step
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.data.toys import SIGMA_DATA, Mixture


@dataclass(frozen=True)
class Exact:
    """An `Estimator` of any target for points of a `Mixture`; NumPy, float64.

    Args:
        mixture: the data.
        steps: Heun steps from one level to any other.
        targets: the jumps that it declares; as a denoiser (`SAME`) it ignores `to`.
    """

    mixture: Mixture
    steps: int = 200
    targets: Targets = Targets.ANY
    epsilon: float = 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Condition) -> Any:
        """The average of the denoiser over κ from `at` to `to`: (σ_s·x_r − σ_r·x_s)/(α_r·σ_s − α_s·σ_r)."""
        x = np.asarray(x, dtype=np.float64)
        apart = np.broadcast_to(np.asarray(to.alpha * at.sigma != at.alpha * to.sigma), len(x))
        if self.targets is Targets.SAME or not apart.any():
            return self.mixture.denoise(x, at)
        average = connecting_estimate(x, at, to, self.flow(x, at, to))
        return np.where(apart[:, None], average, self.mixture.denoise(x, at))

    def flow(self, x: Any, at: Level, to: Level) -> Any:
        """The point at level `to` of the trajectory that passes through x [b, d] at level `at`."""
        return self.trajectory(x, at, to)[-1]

    def trajectory(self, x: Any, at: Level, to: Level) -> Any:
        """The states [steps + 1, b, d] along the trajectory, each on the trig path; the last on the scale of `to`."""
        x = np.asarray(x, dtype=np.float64)
        levels = self.between(at, to)
        states = [x * per_sample(levels[0].magnitude(SIGMA_DATA) / at.magnitude(SIGMA_DATA), x)]
        denoiser = Exact(self.mixture, targets=Targets.SAME)
        for start, end in pairwise(levels):
            states.append(heun_step(denoiser, states[-1], start, end, {}, sigma_data=SIGMA_DATA)[0])
        states[-1] = states[-1] * per_sample(to.magnitude(SIGMA_DATA) / levels[-1].magnitude(SIGMA_DATA), x)
        return np.stack(states)

    def between(self, at: Level, to: Level) -> list[Level]:
        """The levels of `trajectory`: evenly spaced in angle on the trig path, exact at pure noise and at clean."""
        first, last = at.angle(SIGMA_DATA), to.angle(SIGMA_DATA)
        levels = []
        for share in np.linspace(0.0, 1.0, self.steps + 1):
            angle = first + share * (last - first)
            alpha = np.where(angle >= np.pi / 2, 0.0, np.cos(angle))
            levels.append(Level(alpha, SIGMA_DATA * np.sin(angle)))
        return levels
