"""What takes a small step tends to what takes a derivative: on the same batch, levels and noise the gradients of both
come together as fast as the step shrinks, whatever the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.arrays import Array
from fewstep.core.grids import karras
from fewstep.core.levels import Trig, from_ratio
from fewstep.objectives import (
    Batch,
    ConsistencyTraining,
    ContinuousConsistency,
    EasyConsistency,
    MeanFlow,
    Objective,
    Shortcut,
)
from fewstep.objectives.curricula import Clock, EctGap
from fewstep.objectives.distances import Squared
from fewstep.objectives.times import Rng, uniform_weights
from objective_cases import points
from students import Dictated, perceptron, student_of
from subjects import slope

CLOCK, SIZE = Clock(0, 10), 32
DATA = points(SIZE)
NOISE = torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
PLACES = torch.linspace(0.03, 0.97, SIZE, dtype=torch.float64)
STEPS = [100, 200, 400, 800]


@dataclass(frozen=True)
class These:
    """Levels that were drawn elsewhere."""

    ratios: Tensor

    def sample(self, rng: Rng, size: int) -> Array:
        return self.ratios


@dataclass(frozen=True)
class Pairs:
    """Pairs of times that were drawn elsewhere."""

    t: Tensor
    r: Tensor

    def sample(self, rng: Rng, size: int) -> tuple[Array, Array]:
        return self.t, self.r


def _gradient(objective: Objective, uniforms: list[Tensor]) -> Tensor:
    network = perceptron().double()
    student = student_of(network, objective.targets)
    loss = objective(student, student, Batch(DATA), CLOCK, Dictated([NOISE], uniforms))
    loss.value.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def _rate(t: Tensor) -> Tensor:
    """The weight of sCT's loss beside that of ‖D(x_t) − sg D(x_r)‖²/(t − r), t in σ/α: with the angle θ,

    cot θ·(dD/dθ)/(σd·dim) = (dD/dt)/(sin θ·cos θ·dim), since dt/dθ = σd/cos²θ.
    """
    theta = Trig(0.5).time(from_ratio(t))
    weight: Tensor = 1 / (theta.sin() * theta.cos() * 2)
    return weight


def _by_level(t: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: Squared()(a, b) * _rate(t)


def _on_a_grid(steps: int) -> tuple[Objective, Tensor, list[Tensor]]:
    """CT with `steps` levels: its t are those of the grid."""
    rising = torch.from_numpy(karras(steps, 0.05, 20.0).ratio[:-1][::-1].copy())
    t = rising[torch.floor(PLACES * (steps - 1)).long() + 1]
    grid: dict[str, Any] = {"sigma_min": 0.05, "sigma_max": 20.0, "weights": uniform_weights}
    return ConsistencyTraining(lambda clock: steps, distance=_by_level(t), **grid), t, [PLACES]


def _by_a_gap(steps: int) -> tuple[Objective, Tensor, list[Tensor]]:
    """ECT with r = t·(1 − 1/steps)."""
    t = 0.05 * 400**PLACES
    gap = EctGap(q=float(steps), stages=1, k=0.0)
    return EasyConsistency(These(t), gap, _by_level(t), dropout=False), t, []


@pytest.mark.parametrize("make", [_on_a_grid, _by_a_gap], ids=["CT", "ECT"])
def test_consistency_training_in_small_steps_is_continuous(make: Any) -> None:
    errors = []
    for steps in STEPS:
        discrete, t, uniforms = make(steps)
        continuous = ContinuousConsistency(density=These(t), warmup=0, floor=None, weight=None)
        limit = _gradient(continuous, [])
        errors.append(float((_gradient(discrete, uniforms) - limit).norm() / limit.norm()))
    assert slope(STEPS, errors) == pytest.approx(1.0, abs=0.1)
    assert errors[-1] < 0.02


def _soflow(times: Pairs, steps: int) -> Objective:
    return Shortcut.soflow(times=times, gap=lambda clock: 1 / steps, power=0.0)


def test_soflow_in_small_steps_is_mean_flow() -> None:
    """Its first jump is made with the data's velocity, the second by the map itself, no matter which map that is."""
    times = Pairs(PLACES, PLACES * PLACES.flip(0))
    limit = _gradient(MeanFlow(times, power=0.0), [])
    # its squared distance is the mean over a sample, MeanFlow's the sum
    errors = [float((2 * _gradient(_soflow(times, steps), []) - limit).norm() / limit.norm()) for steps in STEPS]
    assert slope(STEPS, errors) == pytest.approx(1.0, abs=0.1)
    assert errors[-1] < 0.02


def test_where_both_times_are_one_soflow_is_mean_flow_in_any_step() -> None:
    times = Pairs(PLACES, PLACES)
    matched = _gradient(MeanFlow(times, power=0.0), [])
    torch.testing.assert_close(2 * _gradient(_soflow(times, 3), []), matched, rtol=1e-9, atol=1e-12)
