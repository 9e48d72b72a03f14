"""What every objective must do. A new one joins by one line in `TABLE`.

Where maths.md §5 calls the exact solution stationary, the expected gradient must vanish there. The students of
these tests are linear in their error θ, so with squared distances the expected gradient is A·θ + b, and where it
vanishes, −A⁻¹·b, is found by a few evaluations with the same random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fewstep.objectives
from fewstep.core.arrays import Array, Condition
from fewstep.core.curricula import Clock, EctGap
from fewstep.core.densities import Rng
from fewstep.core.distances import Squared
from fewstep.core.grids import karras
from fewstep.core.levels import CLEAN, Level, Linear, Path, Trig, from_ratio
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    Diffusion,
    EasyConsistency,
    FlowMatching,
    Loss,
    Objective,
)
from fewstep.training.loop import AtPrecision
from oracles import Gaussian, Mixture
from students import CPU, WithError, perceptron, step_rng, student_of
from subjects import PATHS

START = Clock(0, 100)


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
        low, high: the σ/α that it visits, both ends included.
        levels: of its grid, or how fine the gap between the two levels of a pair is.
        path: the scale of x, None for its own.
        distance: {"distance": Squared()} where the exact solution must be stationary.
    """

    teacher: Estimator = field(default_factory=lambda: Gaussian(0.2, 0.6, targets=Targets.SAME))
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


@dataclass(frozen=True)
class Case:
    """How to build an objective.

    Args:
        make: from what a test asks.
        stationary: where the expected gradient at the exact solution vanishes: at any gap, or as it closes.
        paths: whether it is told the scale of x.
        target: whether its loss looks at the target network.
    """

    make: Callable[[World], Objective]
    stationary: str = "as the gap closes"
    paths: bool = True
    target: bool = True


def _distilled(w: World, **settings: Any) -> Objective:
    return ConsistencyDistillation(w.teacher, w.levels, path=w.path, **w.grid, **w.distance, **settings)


def _trained(w: World, **settings: Any) -> Objective:
    return ConsistencyTraining(levels=lambda clock: w.levels, path=w.path, **w.grid, **w.distance, **settings)


TABLE = {
    "diffusion": Case(lambda w: Diffusion(w.density, path=w.path), "always", target=False),
    "flow matching": Case(lambda w: FlowMatching(w.density), "always", paths=False, target=False),
    "CD, Heun": Case(lambda w: _distilled(w)),
    "CD, Euler": Case(lambda w: _distilled(w, solver="euler")),
    "CD, EMA target": Case(lambda w: _distilled(w, decay=0.9)),
    "CT": Case(lambda w: ConsistencyTraining.ct(levels=lambda k: w.levels, path=w.path, **w.grid, **w.distance)),
    "iCT": Case(lambda w: _trained(w)),
    "ECT": Case(lambda w: EasyConsistency(w.density, w.gap, path=w.path, **w.distance)),
    "ECT, EDM weight": Case(lambda w: EasyConsistency(w.density, w.gap, weight="edm", path=w.path, **w.distance)),
}
PAIRS = [name for name, case in TABLE.items() if case.target]
ON_PATHS = [name for name, case in TABLE.items() if case.paths]
PLAIN = {"distance": Squared()}
ORACLE = Gaussian(np.array([0.3, -0.2]), np.array([0.5, 0.8]))


def test_every_objective_is_in_the_table() -> None:
    made = {type(case.make(World())).__name__ for case in TABLE.values()}
    known = set(fewstep.objectives.__all__) - {"Batch", "Loss", "Objective"}
    assert made == known, "register each objective in TABLE"


def _data(size: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(ORACLE.sample(np.random.default_rng(seed), (size, 2)))


def _loss(objective: Objective, student: Any, batch: Batch, target: Any = None, rng: Rng | None = None) -> Loss:
    return objective(student, target or student, batch, START, rng or step_rng())


def _images(size: int) -> Batch:
    return Batch(torch.randn(size, 3, 4, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", TABLE)
def test_a_loss_has_one_number_and_one_level_a_sample(name: str) -> None:
    objective = TABLE[name].make(World())
    for data in (_images(5).data, _data(5).float()):
        exact = WithError(Gaussian(0.2, 0.6, targets=objective.targets), [0.1, 0.1, 0.1, 0.1])
        loss = _loss(objective, exact, Batch(data))
        assert loss.per_sample.shape == loss.at.alpha.shape == loss.at.sigma.shape == (5,)
        assert loss.per_sample.dtype == torch.float32
        assert loss.at.sigma.dtype == torch.float64
        assert not loss.per_sample.requires_grad
        assert loss.terms["student"].shape == ()
        torch.testing.assert_close(loss.terms["student"], loss.per_sample.mean())
        assert bool((loss.per_sample > 0).all())
        assert all(value.ndim == 0 and not value.requires_grad for value in loss.scalars.values())


@pytest.mark.parametrize("name", TABLE)
def test_loss_and_gradients_are_finite_at_both_ends(name: str) -> None:
    for path in PATHS.values() if TABLE[name].paths else [None]:
        objective = TABLE[name].make(World(low=0.002, high=80.0, levels=2, path=path))
        network = perceptron()
        loss = _loss(objective, student_of(network, objective.targets, epsilon=0.002), Batch(_data(8).float()))
        _assert_learns(loss, network)
        assert float(loss.at.ratio.max()) == pytest.approx(80.0)


@pytest.mark.parametrize("path", [Linear(), Trig()], ids=["linear", "trig"])
@pytest.mark.parametrize("name", TABLE)
def test_loss_and_gradients_are_finite_at_pure_noise(name: str, path: Path) -> None:
    pure = World(low=1e29, high=1e30, levels=2, path=path)
    if "CT" in name or "CD" in name:
        pure = replace(pure, low=0.5)  # the other level of the pair
    if name == "iCT":
        objective = _trained(pure, weights=lambda ratios: np.ones(len(ratios) - 1))
    else:
        objective = TABLE[name].make(pure)
    network = perceptron()
    loss = _loss(objective, student_of(network, objective.targets, epsilon=0.5), Batch(_data(8).float()))
    assert float(loss.at.alpha.min()) == 0.0
    weightless = name in ("iCT", "ECT")  # a weight of 1/(t − r) is 0 there
    _assert_learns(loss, network, something=not weightless)


def _assert_learns(loss: Loss, network: torch.nn.Module, something: bool = True) -> None:
    assert bool(torch.isfinite(loss.per_sample).all())
    loss.terms["student"].backward()
    gradients = [parameter.grad for name, parameter in network.named_parameters()]
    assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients)
    if something:
        assert sum(float(gradient.abs().sum()) for gradient in gradients if gradient is not None) > 0


@pytest.mark.parametrize("name", ON_PATHS)
def test_the_loss_is_the_same_on_every_path(name: str) -> None:
    losses = []
    for path in PATHS.values():
        # the range is wider than the tables of the VP paths
        objective = TABLE[name].make(World(low=0.002, high=80.0, path=path))
        student = WithError(replace(ORACLE, targets=objective.targets), [0.2, -0.1, 0.3, 0.1])
        losses.append(_loss(objective, student, Batch(_data(64))).per_sample)
    for other in losses[1:]:
        torch.testing.assert_close(other, losses[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_the_result_does_not_depend_on_how_many_processes_share_the_batch(name: str) -> None:
    objective = TABLE[name].make(World())
    student = student_of(perceptron(), objective.targets)
    data = _data(8).float()
    whole = _loss(objective, student, Batch(data), rng=step_rng(3))
    if not isinstance(objective, (ConsistencyDistillation, ConsistencyTraining)):
        objective = _without_forced_ends(objective)
        whole = _loss(objective, student, Batch(data), rng=step_rng(3))
    halves = [_loss(objective, student, Batch(data[4 * r : 4 * r + 4]), rng=step_rng(3, r, 2)) for r in range(2)]
    torch.testing.assert_close(torch.cat([half.per_sample for half in halves]), whole.per_sample)
    torch.testing.assert_close(torch.cat([half.at.sigma for half in halves]), whole.at.sigma, rtol=0, atol=0)
    other = _loss(objective, student, Batch(data), rng=step_rng(4))
    assert not torch.equal(other.at.sigma, whole.at.sigma)


def _without_forced_ends(objective: Any) -> Any:
    return replace(objective, density=fewstep.core.densities.LogNormal())


@pytest.mark.parametrize("name", TABLE)
def test_half_precision_networks_give_a_loss_near_float32s(name: str) -> None:
    objective, batch = TABLE[name].make(World(low=0.1, levels=3)), Batch(_data(64).float())
    single, half = (
        _loss(objective, student_of(AtPrecision(perceptron(), CPU, precision), objective.targets), batch)
        for precision in ("float32", "bf16")
    )
    assert half.per_sample.dtype == torch.float32
    assert not torch.equal(half.per_sample, single.per_sample)
    torch.testing.assert_close(half.terms["student"], single.terms["student"], rtol=0.03, atol=0)


@pytest.mark.parametrize("name", TABLE)
def test_only_the_student_gets_a_gradient(name: str) -> None:
    networks = {role: perceptron(seed) for seed, role in enumerate(("student", "target", "teacher"))}
    teacher = student_of(networks["teacher"], Targets.SAME)
    objective = TABLE[name].make(World(teacher=teacher))
    student, target = (student_of(networks[role], objective.targets) for role in ("student", "target"))
    batch = Batch(_data(8).float())
    loss = _loss(objective, student, batch, target)
    loss.terms["student"].backward()
    assert all(p.grad is None for role in ("target", "teacher") for p in networks[role].parameters())
    apart = torch.cat([p.grad.flatten() for p in networks["student"].parameters() if p.grad is not None])
    uses = not torch.equal(loss.per_sample, _loss(objective, student, batch, student).per_sample)
    assert uses == TABLE[name].target
    # where the target is the student itself, the answer still counts as a constant
    networks["student"].zero_grad()
    frozen = student_of(perceptron(1), objective.targets)
    _loss(objective, student, batch, frozen).terms["student"].backward()
    again = torch.cat([p.grad.flatten() for p in networks["student"].parameters() if p.grad is not None])
    torch.testing.assert_close(again, apart)


@pytest.mark.parametrize("name", PAIRS)
def test_the_target_is_asked_for_clean_data_at_a_lower_level(name: str) -> None:
    objective = TABLE[name].make(World())
    calls: dict[str, tuple[Level, Level, bool]] = {}

    def spy(role: str) -> Any:
        estimator = student_of(perceptron(), objective.targets)

        class Spy:
            targets, epsilon = estimator.targets, estimator.epsilon

            def __call__(self, x: Array, at: Level, to: Level, cond: Condition) -> Array:
                calls[role] = (at, to, torch.is_grad_enabled())
                return estimator(x, at, to, cond)

        return Spy()

    _loss(objective, spy("student"), Batch(_data(32).float()), spy("target"))
    (t, t_to, learns), (r, r_to, target_learns) = calls["student"], calls["target"]
    assert bool((r.ratio < t.ratio).all())
    assert float(t_to.sigma.abs().max()) == float(r_to.sigma.abs().max()) == 0.0
    assert (learns, target_learns) == (True, False)


@pytest.mark.parametrize("name", TABLE)
def test_dropout_drops_the_same_in_both_branches_and_only_where_asked(name: str) -> None:
    made = TABLE[name].make(World())
    seen: list[Any] = []

    def network(x: Tensor, at: Tensor, to: Tensor, cond: Condition) -> Tensor:
        seen.append(cond.get("dropout"))
        return 0 * x

    for dropout in (True, False):
        seen.clear()
        objective = replace(made, dropout=dropout)  # type: ignore[type-var]
        _loss(objective, student_of(network, made.targets), Batch(_data(32).float()))
        assert len(seen) == (2 if TABLE[name].target else 1)
        if dropout:
            assert seen[0].dtype == torch.int64
            assert len(set(seen[0].tolist())) == 32
            assert all(torch.equal(keys, seen[0]) for keys in seen)
        else:
            assert all(keys is None for keys in seen)


@pytest.mark.parametrize("name", TABLE)
def test_a_gradient_step_brings_the_student_nearer_to_the_exact_solution(name: str) -> None:
    objective = TABLE[name].make(World(teacher=replace(ORACLE, targets=Targets.SAME), levels=12))
    probe, at = _data(512, seed=5), from_ratio(LogUniform(0.01, 20.0).sample(step_rng(9), 512))
    x = at.mix(probe, torch.randn(512, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    for start in ([0.4, 0, 0, 0], [0, 0.4, 0, 0], [0, 0, -0.4, 0], [0, 0, 0, 0.4], [-0.3, 0.2, -0.1, 0.3]):
        student = WithError(replace(ORACLE, targets=objective.targets), start)
        _loss(objective, student, Batch(_data(8192))).terms["student"].backward()
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
        loss = _loss(objective, student, Batch(data(step)), rng=step_rng(step))
        gradients.append(torch.autograd.grad(loss.terms["student"], student.theta)[0])
    return torch.stack(gradients)


def _significance(gradients: Tensor) -> float:
    """The largest |mean| in standard errors."""
    error = gradients.std(dim=0) / len(gradients) ** 0.5
    return float((gradients.mean(dim=0) / error).abs().max())


@pytest.mark.parametrize("name", ALWAYS)
def test_the_expected_gradient_vanishes_at_the_exact_solution(name: str) -> None:
    mixture = Mixture.ring(targets=Targets.SAME)
    objective = TABLE[name].make(World(low=0.05))
    points = [torch.from_numpy(mixture.sample(np.random.default_rng(i), 1024)) for i in range(40)]
    exact = _gradients(objective, WithError(mixture), points.__getitem__, 40)
    assert _significance(exact) < 4.0
    wrong = WithError(mixture, [0.05, -0.05, 0.05, 0.05])
    assert _significance(_gradients(objective, wrong, points.__getitem__, 40)) > 8.0


def _fixed_point(objective: Objective, size: int = 2**15) -> Tensor:
    """θ where the expected gradient vanishes, for squared distances: −A⁻¹·b."""
    student = WithError(replace(ORACLE, targets=objective.targets))

    def gradient(theta: Tensor) -> Tensor:
        student.theta.data = theta
        return _gradients(objective, student, lambda step: _data(size, seed=step), 4).mean(dim=0)

    offset = gradient(torch.zeros(4, dtype=torch.float64))
    unit = torch.eye(4, dtype=torch.float64)
    slopes = torch.stack([gradient(unit[k]) - offset for k in range(4)], dim=1)
    assert bool((torch.linalg.eigvals(slopes).real > 0).all()), "gradient descent must lead there"
    return -torch.linalg.solve(slopes, offset)


@pytest.mark.parametrize("name", IN_THE_LIMIT)
def test_the_fixed_point_tends_to_the_exact_solution_as_the_gap_closes(name: str) -> None:
    def distance(levels: int) -> float:
        world = World(replace(ORACLE, targets=Targets.SAME), low=0.01, high=10.0, levels=levels, distance=PLAIN)
        return float(_fixed_point(TABLE[name].make(world)).norm())

    wide, middle, close = distance(4), distance(16), distance(64)
    sampling_error = 0.012
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
    objective = ConsistencyDistillation(oracle, levels=4, solver="euler", sigma_min=0.05, **PLAIN)
    objective = replace(objective, teacher=ExactStep(oracle, objective.ratios(0.0)))
    student = WithError(replace(oracle, targets=Targets.CLEAN))
    data = torch.from_numpy(oracle.sample(np.random.default_rng(0), 64 if isinstance(oracle, Mixture) else (64, 2)))
    loss = _loss(objective, student, Batch(data))
    loss.terms["student"].backward()
    assert float(loss.per_sample.max()) < 1e-12
    assert float(student.theta.grad.abs().max()) < 1e-7  # type: ignore[union-attr]
    inexact = _loss(replace(objective, teacher=replace(oracle, targets=Targets.SAME)), student, Batch(data))
    assert float(inexact.per_sample.max()) > 1e-3


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
    assert float(_loss(objective, WithError(AnyTarget()), Batch(points[0])).scalars["gap"]) == 0.0
    assert _significance(_gradients(objective, WithError(AnyTarget()), points.__getitem__, 40)) < 4.0
    wrong = WithError(AnyTarget(), [0.05, -0.05, 0.05, 0.05])
    assert _significance(_gradients(objective, wrong, points.__getitem__, 40)) > 8.0


def test_the_target_decay_says_whether_there_is_a_target_network() -> None:
    decays = {name: case.make(World()).target_decay(START) for name, case in TABLE.items()}
    assert {name for name, decay in decays.items() if decay is not None} == {"CD, EMA target", "CT"}
    assert decays["CD, EMA target"] == 0.9
    assert all(decay is None or 0 < decay < 1 for decay in decays.values())


def test_the_grid_of_distillation_is_the_samplers() -> None:
    objective = ConsistencyDistillation(ORACLE, levels=18)
    np.testing.assert_array_equal(objective.ratios(0.0).flip(0).numpy(), karras(18).ratio)
    pinned = objective.ratios(0.002)
    assert float(pinned[0]) == 0.002
    assert len(pinned) == 18
    assert CLEAN.ratio == 0.0
