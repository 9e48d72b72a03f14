"""How tests build every objective. A new one joins by one line in `TABLE`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.core.levels import Path
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    ContinuousConsistency,
    Diffusion,
    DistributionMatching,
    EasyConsistency,
    FlowMapDistillation,
    FlowMapDistributionMatching,
    FlowMatching,
    Loss,
    MeanFlow,
    Objective,
    Shortcut,
    TruncatedConsistency,
)
from fewstep.objectives.curricula import Clock, EctGap
from fewstep.objectives.derivatives import Derivative
from fewstep.objectives.distances import Squared
from fewstep.objectives.times import Rng, TwoTimes
from oracles import Gaussian
from students import WithError, step_rng

START = Clock(0, 100)

PURE = 1e4
"""σ/α that hides the data."""


@dataclass(frozen=True)
class LogUniform:
    """A density that covers σ/α from `low` to `high` evenly in the logarithm, its two ends included."""

    low: float
    high: float

    def sample(self, rng: Rng, size: int) -> Tensor:
        u = rng.uniform((size,)).double()
        u[0], u[-1] = 0.0, 1.0
        return self.low * (self.high / self.low) ** u


@dataclass(frozen=True)
class World:
    """What a test asks of an objective.

    Args:
        teacher: for those that need one.
        first: the consistency function that a second stage goes on from.
        fake: a denoiser that learns, for those that train one beside the student.
        low, high: the σ/α that it visits, both ends included.
        levels: of its grid, or how fine the gap between the two levels of a pair is.
        path: the scale of x, None for its own.
        distance: {"distance": Squared()} where the exact solution must be stationary: without adaptive weights and
            normalised tangents then.
    """

    teacher: Estimator = field(default_factory=lambda: Gaussian(0.2, 0.6, targets=Targets.SAME))
    first: Estimator = field(default_factory=lambda: Gaussian(0.2, 0.6, targets=Targets.CLEAN))
    fake: Estimator = field(
        default_factory=lambda: WithError(Gaussian(0.3, 0.5, targets=Targets.SAME), [0.1, -0.1, 0.2, 0.1])
    )
    low: float = 0.01
    high: float = 20.0
    levels: int = 6
    path: Path | None = None
    distance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def density(self) -> LogUniform:
        return LogUniform(self.low, self.high)

    @property
    def grid(self) -> dict[str, float]:
        return {"sigma_min": self.low, "sigma_max": self.high}

    @property
    def gap(self) -> EctGap:
        """r = t·(1 − 1/levels)."""
        return EctGap(q=self.levels, stages=1, k=0.0)

    @property
    def times(self) -> TwoTimes:
        return TwoTimes(self.density, 0.5)

    @property
    def plain(self) -> bool:
        return bool(self.distance)


@dataclass(frozen=True)
class Case:
    """How to build an objective.

    Args:
        make: from what a test asks.
        stationary: where the expected gradient at the exact solution vanishes: at any gap, or as it closes; `in
            distribution` if what counts is the distribution of its samples, not each of them.
        paths: whether it is told the scale of x.
        target: whether its loss looks at the target network.
        calls: of the network in one loss.
        flow_map: whether it learns jumps to any level.
    """

    make: Callable[[World], Objective]
    stationary: str = "as the gap closes"
    paths: bool = True
    target: bool = True
    calls: int = 2
    flow_map: bool = False


def distilled(w: World, **settings: Any) -> Objective:
    return ConsistencyDistillation(w.teacher, w.levels, path=w.path, **w.grid, **w.distance, **settings)


def trained(w: World, **settings: Any) -> Objective:
    return ConsistencyTraining(levels=lambda clock: w.levels, path=w.path, **w.grid, **w.distance, **settings)


def continuous(w: World, **settings: Any) -> Objective:
    loose: dict[str, Any] = {"floor": None, "weight": None} if w.plain else {}
    return ContinuousConsistency(density=w.density, **{"warmup": 0, "derivative": STEPS, **loose, **settings})


def mean_flow(w: World, **settings: Any) -> Objective:
    loose: dict[str, Any] = {"power": 0.0} if w.plain else {}
    return MeanFlow(w.times, **{"derivative": STEPS, **loose, **settings})


def aligned(w: World, **settings: Any) -> Objective:
    loose: dict[str, Any] = {"floor": None} if w.plain else {}
    return FlowMapDistillation(w.teacher, times=w.times, **{"warmup": 0, "derivative": STEPS, **loose, **settings})


def truncated(w: World) -> Objective:
    return TruncatedConsistency(w.first, 1.0, w.density, gap=w.gap, path=w.path, **w.distance)


def matching(w: World, ratios: tuple[float, ...] = (PURE,), **settings: Any) -> Objective:
    return DistributionMatching(w.teacher, w.fake, ratios, w.density, w.density, path=w.path, **settings)


STEPS = Derivative("differences", 1e-4)
FORWARD = Derivative()
JVP: dict[str, Any] = {"paths": False, "flow_map": True}

TABLE = {
    "diffusion": Case(lambda w: Diffusion(w.density, path=w.path), "always", target=False, calls=1),
    "flow matching": Case(lambda w: FlowMatching(w.density), "always", paths=False, target=False, calls=1),
    "CD, Heun": Case(lambda w: distilled(w)),
    "CD, Euler": Case(lambda w: distilled(w, solver="euler")),
    "CD, EMA target": Case(lambda w: distilled(w, decay=0.9)),
    "CT": Case(lambda w: ConsistencyTraining.ct(levels=lambda k: w.levels, path=w.path, **w.grid, **w.distance)),
    "iCT": Case(lambda w: trained(w)),
    "ECT": Case(lambda w: EasyConsistency(w.density, w.gap, path=w.path, **w.distance)),
    "ECT, EDM weight": Case(lambda w: EasyConsistency(w.density, w.gap, weight="edm", path=w.path, **w.distance)),
    "TCM": Case(truncated),
    "sCT": Case(lambda w: continuous(w), "always", paths=False, calls=4),
    "sCT, forward": Case(lambda w: continuous(w, derivative=FORWARD), "always", paths=False),
    "sCT, warming up": Case(lambda w: continuous(w, warmup=10), "no", paths=False, calls=4),
    "sCD": Case(lambda w: continuous(w, teacher=w.teacher), "always", paths=False, calls=4),
    "MeanFlow": Case(lambda w: mean_flow(w), "always", calls=4, **JVP),
    "MeanFlow, forward": Case(lambda w: mean_flow(w, derivative=FORWARD), "always", **JVP),
    "MeanFlow, improved": Case(lambda w: mean_flow(w, improved=True), "always", calls=5, **JVP),
    "MeanFlow, distilled": Case(lambda w: mean_flow(w, teacher=w.teacher), "always", calls=4, **JVP),
    "AYF, Eulerian": Case(lambda w: aligned(w), "always", calls=4, **JVP),
    "AYF, Lagrangian": Case(lambda w: aligned(w, end="lagrangian"), "always", calls=4, **JVP),
    "shortcut": Case(lambda w: Shortcut(w.times), "always", paths=False, calls=3, flow_map=True),
    "DMD2": Case(lambda w: matching(w), "in distribution", target=False, calls=1),
    "DMD2, two steps": Case(lambda w: matching(w, (PURE, 2.0)), "in distribution", calls=2),
    "DMD2, own score": Case(
        lambda w: FlowMapDistributionMatching(w.teacher, (PURE,), w.density, path=w.path), "always", target=False
    ),
    "SoFlow": Case(
        lambda w: Shortcut.soflow(times=w.times, gap=lambda clock: 1 / w.levels, power=0.0 if w.plain else 1.0),
        paths=False,
        flow_map=True,
    ),
}
PAIRS = [name for name, case in TABLE.items() if case.target]
ON_PATHS = [name for name, case in TABLE.items() if case.paths]
PLAIN = {"distance": Squared()}
ORACLE = Gaussian(np.array([0.3, -0.2]), np.array([0.5, 0.8]))


def points(size: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(ORACLE.sample(np.random.default_rng(seed), (size, 2)))


def losses_of(
    objective: Objective, student: Any, batch: Batch, target: Any = None, rng: Rng | None = None
) -> Mapping[str, Loss]:
    """The losses of the first step, at which every network has one, by name."""
    losses = objective(student, target or student, batch, START, rng or step_rng())
    return {"student": losses} if isinstance(losses, Loss) else losses


def loss_of(objective: Objective, student: Any, batch: Batch, target: Any = None, rng: Rng | None = None) -> Loss:
    """The student's loss of the first step."""
    return losses_of(objective, student, batch, target, rng)["student"]
