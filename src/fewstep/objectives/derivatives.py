"""How an estimate changes along (x, at, to): the directional derivative that continuous-time objectives need.

Forward mode is exact and costs one pass in addition to the network's own; central differences cost two passes and
work where forward mode does not (fused attention, compiled or imported networks). The network is run in float32 and
without gradients: nothing is trained through derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fewstep.core.arrays import Condition, per_sample
from fewstep.core.checks import check_choice
from fewstep.core.levels import Path
from fewstep.core.parameterisations import Estimator


@dataclass(frozen=True)
class Direction:
    """The direction of a derivative: a tangent in x, and the rates of both times.

    Args:
        x: tangent [b, ...].
        at, to: rates of the times of both levels, in the path's time.
    """

    x: Tensor
    at: float = 1.0
    to: float = 0.0


@dataclass(frozen=True)
class Derivative:
    """How to differentiate an estimator.

    Args:
        mode: `forward` is forward-mode differentiation, `differences` central differences, one-sided at the ends of
            the path.
        step: step of the differences, in the path's time. Float32 causes a relative error of 1e-7/step, the third
            derivative an error of step².
    """

    mode: Literal["forward", "differences"] = "forward"
    step: float = 5e-4

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, "forward", "differences")
        if not 0 < self.step < 1:
            raise ValueError(f"step must be between 0 and 1, got {self.step}")

    @torch.no_grad()
    def __call__(
        self, estimator: Estimator, path: Path, x: Tensor, at: Tensor, to: Tensor, cond: Condition, along: Direction
    ) -> tuple[Tensor, Tensor]:
        """The estimate and its derivative, both of x's shape.

        Args:
            estimator: the estimator to differentiate.
            path: the path that defines the times and the scale of x.
            x: state [b, ...].
            at, to: times [b], float64.
            cond: condition, which is held fixed.
            along: the direction.
        """
        if self.mode == "forward":
            return _forward(estimator, path, x, at, to, cond, along)
        return self._differences(estimator, path, x, at, to, cond, along)

    def _differences(
        self, estimator: Estimator, path: Path, x: Tensor, at: Tensor, to: Tensor, cond: Condition, along: Direction
    ) -> tuple[Tensor, Tensor]:
        ahead, behind = (self._room(path, ((at, side * along.at), (to, side * along.to))) for side in (1.0, -1.0))
        after, before = (
            estimator(
                x + per_sample(step, x) * along.x,
                path.level(at + step * along.at),
                path.level(to + step * along.to),
                cond,
            )
            for step in (ahead, -behind)
        )
        return estimator(x, path.level(at), path.level(to), cond), (after - before) * per_sample(
            1 / (ahead + behind), x
        )

    def _room(self, path: Path, moves: tuple[tuple[Tensor, float], ...]) -> Tensor:
        """The step [b], shortened where a time would leave the path."""
        step = torch.full_like(moves[0][0], self.step)
        for time, rate in moves:
            end = path.noisiest if rate > 0 else path.cleanest
            if rate:
                step = torch.minimum(step, (end - time) / rate)
        return step.clamp(min=0.0)


def _forward(
    estimator: Estimator, path: Path, x: Tensor, at: Tensor, to: Tensor, cond: Condition, along: Direction
) -> tuple[Tensor, Tensor]:
    with forward_ad.dual_level():
        moving = _dual(x, along.x.to(x.dtype))
        here = path.level(_dual(at, torch.full_like(at, along.at)))
        there = path.level(_dual(to, torch.full_like(to, along.to)))
        estimate, derivative = forward_ad.unpack_dual(estimator(moving, here, there, cond))
        return estimate, torch.zeros_like(estimate) if derivative is None else derivative


def _dual(values: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(values, tangent)
    return dual
