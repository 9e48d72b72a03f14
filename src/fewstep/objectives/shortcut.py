"""Shortcut models (2410.12557) and SoFlow (2512.15657): a flow map from its own composition, without derivatives.

A jump from t to r must equal a jump to m followed by one from m to r. Shortcut models stop half way, m = (t + r)/2,
and make both jumps themselves; SoFlow stops close to t and makes the first jump with the data's velocity. The target
is the single jump that ends where the two did, and the data where r = t, without which any self-consistent map would
do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from fewstep.core.arrays import like, per_sample
from fewstep.core.checks import check_above_0, check_at_least, check_choice, check_decay
from fewstep.core.jump import connecting_estimate, jump
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.distances import Squared
from fewstep.objectives.flow_maps import LINEAR, adaptive
from fewstep.objectives.objective import COMPARED, Batch, Loss, Objective, Role, mean_loss, with_dropout
from fewstep.objectives.times import Halves, LogitNormal, Pairs, Rng, TwoTimes


def soflow_gap(clock: Clock, start: float = 0.1, end: float = 0.002) -> float:
    """(t − m)/(t − r), falling exponentially over training (2512.15657 §3.3)."""
    return float(start * (end / start) ** clock.fraction)


def half_way(clock: Clock) -> float:
    """(t − m)/(t − r) = 1/2, always."""
    return 0.5


@dataclass(frozen=True)
class Shortcut(Objective):
    """A flow map that agrees with two shorter jumps of its own.

    Args:
        times: distribution of t and r; every batch needs pairs with r = t.
        gap: (t − m)/(t − r) at a step, in (0, 1).
        first: what makes the jump from t to m: the `model`, or the `data` of the sample.
        decay: decay of the moving average that makes the target's jumps; None for the student itself.
        power, floor: p and c of the adaptive weight ℓ/(ℓ + c)^p: p = 0 in shortcut models, 1 in SoFlow with c = 0.01.
        dropout: whether to drop activations, with one mask for all jumps.
    """

    times: Pairs = field(default_factory=Halves)
    gap: Callable[[Clock], float] = half_way
    first: Literal["model", "data"] = "model"
    decay: float | None = 0.999
    power: float = 0.0
    floor: float = 0.01
    dropout: bool = False
    targets: Targets = Targets.ANY

    def __post_init__(self) -> None:
        check_choice("first", self.first, "model", "data")
        if self.first == "model" and getattr(self.times, "apart", 0.0) == 1.0:
            raise ValueError("apart must be below 1: without pairs at r = t any self-consistent map would do")
        check_decay(self.decay)
        check_at_least(0, power=self.power)
        check_above_0(floor=self.floor)

    @classmethod
    def soflow(cls, **settings: Any) -> Shortcut:
        """SoFlow's settings; its loss is that of the shorter jump, (t − r)/(t − m) times as large."""
        chosen: dict[str, Any] = {"times": TwoTimes(LogitNormal(-0.2, 1.0), 0.25), "gap": soflow_gap, "first": "data"}
        return cls(**{**chosen, "decay": None, "power": 1.0, **settings})

    @property
    def in_float32(self) -> Collection[Role]:
        return COMPARED if self.first == "data" else ()

    def target_decay(self, clock: Clock) -> float | None:
        return self.decay

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        t, r = self.times.sample(rng, size)
        gap = self.gap(clock)
        if not 0 < gap < 1:
            raise ValueError(f"gap must be above 0 and below 1 for m to lie between t and r, got {gap}")
        at, middle, to = (LINEAR.level(time) for time in (t, t - gap * (t - r), r))
        noise = rng.normal(batch.data.shape).to(batch.data.dtype)
        x = at.mix(batch.data, noise)
        cond = with_dropout(batch.cond, rng, size) if self.dropout else batch.cond
        with torch.no_grad():
            estimate = batch.data if self.first == "data" else target(x, at, middle, cond)
            half = jump(x, at, middle, estimate)
            reached = jump(half, middle, to, target(half, middle, to, cond))
            apart = per_sample(like(r < t, x), x) != 0
            goal = torch.where(apart, connecting_estimate(x, at, to, reached), batch.data)
        # the squared distance of velocities, u = (x − D)/t; if data make the first jump, that of the jumps' ends
        # divided by their distance in time, weighted so that its gradient in u does not grow as the gap closes
        near = torch.where(r < t, gap, 1.0).to(x.dtype) if self.first == "data" else torch.ones_like(t).to(x.dtype)
        squared = Squared()(student(x, at, to, cond), goal) / (t * near).square() / math.prod(x.shape[1:])
        return mean_loss((near * adaptive(squared, self.power, self.floor)).to(x.dtype), at)
