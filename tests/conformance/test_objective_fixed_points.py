"""Every objective leads to the exact solution. A new one joins by one line in `objective_cases.TABLE`.

Where an objective has the exact solution as its stationary point, the expected gradient must vanish there. The students of
these tests are linear in their error θ, so with squared distances the expected gradient is A·θ + b, and where it
vanishes, −A⁻¹·b, is found by a few evaluations with the same random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.core.arrays import Array, Condition
from fewstep.core.levels import Level, from_ratio
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives import (
    Batch,
    ConsistencyDistillation,
    EasyConsistency,
    Objective,
)
from fewstep.objectives.curricula import EctGap
from fewstep.objectives.times import LogNormal, Rng, TwoTimes
from objective_cases import ORACLE, PLAIN, TABLE, LogUniform, World, loss_of, points
from oracles import Gaussian, Mixture
from students import WithError, step_rng

# matching distributions moves no sample to one place of its own: test_distribution_matching asks instead
POINT_BY_POINT = [name for name, case in TABLE.items() if case.stationary != "in distribution"]


@pytest.mark.parametrize("name", POINT_BY_POINT)
def test_a_gradient_step_brings_the_student_nearer_to_the_exact_solution(name: str) -> None:
    objective = TABLE[name].make(World(teacher=replace(ORACLE, targets=Targets.SAME), levels=12))
    probe, at = points(512, seed=5), from_ratio(LogUniform(0.01, 20.0).sample(step_rng(9), 512))
    x = at.mix(probe, torch.randn(512, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    for start in ([0.4, 0, 0, 0], [0, 0.4, 0, 0], [0, 0, -0.4, 0], [0, 0, 0, 0.4], [-0.3, 0.2, -0.1, 0.3]):
        student = WithError(replace(ORACLE, targets=objective.targets), start)
        loss_of(objective, student, Batch(points(8192))).value.backward()
        before = student.error(x, at).square().mean()
        with torch.no_grad():
            gradient = student.theta.grad
            assert gradient is not None
            student.theta -= 0.02 * gradient / gradient.norm()
            after = student.error(x, at).square().mean()
        assert float(after) < float(before.detach())


ALWAYS = [name for name, case in TABLE.items() if case.stationary == "always"]
IN_THE_LIMIT = [name for name, case in TABLE.items() if case.stationary == "as the gap closes"]


def _gradients(objective: Objective, student: WithError, data: Callable[[int], Tensor], batches: int) -> Tensor:
    """The gradient in θ of each of many batches: [batches, 4]."""
    gradients = []
    for step in range(batches):
        loss = loss_of(objective, student, Batch(data(step)), rng=step_rng(step))
        gradients.append(torch.autograd.grad(loss.value, student.theta)[0])
    return torch.stack(gradients)


def _significance(gradients: Tensor) -> float:
    """The largest |mean| in standard errors; 1e-8 is nothing: with a teacher every sample's own gradient vanishes, but
    for what central differences leave."""
    error = gradients.std(dim=0) / len(gradients) ** 0.5 + 1e-8
    return float((gradients.mean(dim=0) / error).abs().max())


@pytest.mark.parametrize("name", ALWAYS)
def test_the_expected_gradient_vanishes_at_the_exact_solution(name: str) -> None:
    # a flow map's exact solution is closed for a Gaussian, a denoiser's for a mixture too
    oracle: Mixture | Gaussian = Mixture.ring()
    data = [torch.from_numpy(oracle.sample(np.random.default_rng(i), 1024)) for i in range(40)]
    if TABLE[name].make(World()).targets is not Targets.SAME:
        oracle, data = ORACLE, [points(1024, seed) for seed in range(40)]
    objective = TABLE[name].make(World(replace(oracle, targets=Targets.SAME), low=0.05, distance=PLAIN))
    solution = replace(oracle, targets=objective.targets)
    assert _significance(_gradients(objective, WithError(solution), data.__getitem__, 40)) < 4.0
    wrong = WithError(solution, [0.05, -0.05, 0.05, 0.05])
    assert _significance(_gradients(objective, wrong, data.__getitem__, 40)) > 8.0


def _fixed_point(objective: Objective, size: int = 2**15) -> Tensor:
    """θ where the expected gradient vanishes, for squared distances: −A⁻¹·b."""
    student = WithError(replace(ORACLE, targets=objective.targets))

    def gradient(theta: Tensor) -> Tensor:
        student.theta.data = theta
        return _gradients(objective, student, lambda step: points(size, seed=step), 4).mean(dim=0)

    offset = gradient(torch.zeros(4, dtype=torch.float64))
    unit = torch.eye(4, dtype=torch.float64)
    slopes = torch.stack([gradient(unit[k]) - offset for k in range(4)], dim=1)
    assert bool((torch.linalg.eigvals(slopes).real > 0).all()), "gradient descent must lead there"
    return -torch.linalg.solve(slopes, offset)


@pytest.mark.parametrize("name", IN_THE_LIMIT)
def test_the_fixed_point_tends_to_the_exact_solution_as_the_gap_closes(name: str) -> None:
    def distance(levels: int) -> float:
        teacher, first = (replace(ORACLE, targets=targets) for targets in (Targets.SAME, Targets.CLEAN))
        world = World(teacher, first, low=0.01, high=10.0, levels=levels, distance=PLAIN)
        return float(_fixed_point(TABLE[name].make(world)).norm())

    wide, middle, close = distance(4), distance(16), distance(64)
    sampling_error = 0.015
    assert middle < 0.5 * wide
    assert close < max(0.6 * middle, sampling_error)
    assert close < 0.05


@dataclass(frozen=True)
class ExactStep:
    """A teacher whose every jump to the next level of the grid is exact: it gives the average estimate on the way."""

    oracle: Estimator
    ratios: Tensor
    targets: Targets = Targets.SAME
    epsilon: float = 0.0

    def __call__(self, x: Array, at: Level, to: Level, cond: Condition) -> Array:
        index = torch.searchsorted(self.ratios, at.ratio * (1 - 1e-9))
        return self.oracle(x, at, from_ratio(self.ratios[index - 1]), cond)


@pytest.mark.parametrize("oracle", [ORACLE, Mixture.ring()], ids=["gaussian", "mixture"])
def test_distillation_from_an_exact_flow_has_the_exact_solution_as_fixed_point_at_any_gap(oracle: Any) -> None:
    objective = ConsistencyDistillation(oracle, levels=4, solver="euler", sigma_min=0.05, jitter=False, **PLAIN)
    objective = replace(objective, teacher=ExactStep(oracle, objective.ratios(0.0)))
    student = WithError(replace(oracle, targets=Targets.CLEAN))
    data = torch.from_numpy(oracle.sample(np.random.default_rng(0), 64 if isinstance(oracle, Mixture) else (64, 2)))
    loss = loss_of(objective, student, Batch(data))
    loss.value.backward()
    assert float(loss.per_sample.max()) < 1e-12
    assert float(student.theta.grad.abs().max()) < 1e-7  # type: ignore[union-attr]
    inexact = loss_of(replace(objective, teacher=replace(oracle, targets=Targets.SAME)), student, Batch(data))
    assert float(inexact.per_sample.max()) > 1e-3


@dataclass(frozen=True)
class Apart:
    """Pairs of which none is a denoiser's."""

    def sample(self, rng: Rng, size: int) -> tuple[Array, Array]:
        return TwoTimes(LogNormal(0.0, 1.0), apart=1.0).sample(rng, size)


@pytest.mark.parametrize("name", ["MeanFlow, distilled", "AYF, Eulerian", "AYF, Lagrangian", "shortcut"])
def test_the_exact_map_of_the_mixture_is_the_target_of_every_flow_map(name: str) -> None:
    """From the exact flow, sample by sample: whether by a derivative of the map, by either end, or by two jumps of its
    own. So they agree with one another too."""
    mixture = Mixture.ring(std=0.25)
    objective: Any = TABLE[name].make(World(replace(mixture, targets=Targets.SAME), distance=PLAIN))
    objective = replace(objective, times=Apart())
    batch = Batch(torch.from_numpy(mixture.sample(np.random.default_rng(0), 32)))
    assert float(loss_of(objective, WithError(mixture), batch).per_sample.max()) < 1e-8
    wrong = WithError(mixture, [0.3, -0.3, 0.3, 0.3])
    assert float(loss_of(objective, wrong, batch).per_sample.mean()) > 1e-3


def test_easy_consistency_at_r_0_has_the_denoiser_as_its_minimum() -> None:
    mixture = Mixture.ring(targets=Targets.SAME)

    @dataclass(frozen=True)
    class AnyTarget:
        """The denoiser, but the data itself at clean, asked as a consistency function."""

        targets: Targets = Targets.CLEAN
        epsilon: float = 0.0

        def __call__(self, x: Array, at: Level, to: Level, cond: Condition) -> Array:
            return mixture.denoise(x, at)

    objective = EasyConsistency(LogUniform(0.05, 20.0), EctGap(q=1.0), weight="edm", dropout=False, **PLAIN)
    points = [torch.from_numpy(mixture.sample(np.random.default_rng(i), 1024)) for i in range(40)]
    assert float(loss_of(objective, WithError(AnyTarget()), Batch(points[0])).scalars["gap"]) == 1.0
    assert _significance(_gradients(objective, WithError(AnyTarget()), points.__getitem__, 40)) < 4.0
    wrong = WithError(AnyTarget(), [0.05, -0.05, 0.05, 0.05])
    assert _significance(_gradients(objective, wrong, points.__getitem__, 40)) > 8.0
