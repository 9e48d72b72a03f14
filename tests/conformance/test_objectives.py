"""What every objective must do. A new one joins by one line in `objective_cases.TABLE`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fewstep.objectives
from fewstep.core.arrays import Array, Condition
from fewstep.core.grids import karras
from fewstep.core.levels import CLEAN, Level, Linear, Path, Trig
from fewstep.core.parameterisations import Targets
from fewstep.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    Loss,
)
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import Role
from fewstep.objectives.times import LogNormal, TwoTimes
from fewstep.training.calling import AtPrecision
from objective_cases import ON_PATHS, ORACLE, PAIRS, START, TABLE, World, loss_of, losses_of, points, trained
from oracles import Gaussian
from students import CPU, WithError, perceptron, step_rng, student_of
from subjects import PATHS


def test_every_objective_is_in_the_table() -> None:
    made = {type(case.make(World())).__name__ for case in TABLE.values()}
    others = {"Batch", "LearnedGuidance", "Loss", "Objective", "Step", "mean_loss", "noised"}
    known = set(fewstep.objectives.__all__) - others
    assert made == known, "register each objective in TABLE"


def _images(size: int) -> Batch:
    return Batch(torch.randn(size, 3, 4, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", TABLE)
def test_a_loss_has_one_number_and_one_level_a_sample(name: str) -> None:
    objective = TABLE[name].make(World())
    for data in (_images(5).data, points(5).float()):
        exact = WithError(Gaussian(0.2, 0.6, targets=objective.targets), [0.1, 0.1, 0.1, 0.1])
        losses = losses_of(objective, exact, Batch(data))
        assert set(losses) == set(objective.steps)
        for loss in losses.values():
            assert loss.per_sample.shape == loss.at.alpha.shape == loss.at.sigma.shape == (5,)
            assert loss.per_sample.dtype == torch.float32
            assert loss.at.sigma.dtype == torch.float64
            assert not loss.per_sample.requires_grad
            assert loss.value.shape == ()
            torch.testing.assert_close(loss.value, loss.per_sample.mean())
            assert bool((loss.per_sample > 0).all())
            assert all(value.ndim == 0 and not value.requires_grad for value in loss.scalars.values())


@pytest.mark.parametrize("name", TABLE)
def test_loss_and_gradients_are_finite_at_both_ends(name: str) -> None:
    for path in PATHS.values() if TABLE[name].paths else [None]:
        objective = TABLE[name].make(World(low=0.002, high=80.0, levels=2, path=path))
        network = perceptron()
        losses = losses_of(objective, student_of(network, objective.targets, epsilon=0.002), Batch(points(8).float()))
        _assert_learns(losses, [network, *objective.modules.values()])
        assert float(losses["student"].at.ratio.max()) == pytest.approx(80.0)


@pytest.mark.parametrize("path", [Linear(), Trig()], ids=["linear", "trig"])
@pytest.mark.parametrize("name", TABLE)
def test_loss_and_gradients_are_finite_at_pure_noise(name: str, path: Path) -> None:
    pure = World(low=1e29, high=1e30, levels=2, path=path)
    if "CT" in name or "CD" in name:
        pure = replace(pure, low=0.5)  # the other level of the pair
    if name == "iCT":
        objective = trained(pure, weights=lambda ratios: np.ones(len(ratios) - 1))
    else:
        objective = TABLE[name].make(pure)
    if isinstance(objective, ConsistencyDistillation):
        objective = replace(objective, weight=None)
    network = perceptron()
    losses = losses_of(objective, student_of(network, objective.targets, epsilon=0.5), Batch(points(8).float()))
    assert float(losses["student"].at.alpha.min()) == 0.0
    weightless = name in ("iCT", "ECT")  # a weight of 1/(t − r) is 0 there
    _assert_learns(losses, [network, *objective.modules.values()], something=not weightless)


def _assert_learns(losses: Mapping[str, Loss], modules: Sequence[torch.nn.Module], something: bool = True) -> None:
    for loss in losses.values():
        assert bool(torch.isfinite(loss.per_sample).all())
        loss.value.backward(retain_graph=True)
    gradients = [parameter.grad for module in modules for parameter in module.parameters()]
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
        losses.append(loss_of(objective, student, Batch(points(64))).per_sample)
    for other in losses[1:]:
        torch.testing.assert_close(other, losses[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_the_result_does_not_depend_on_how_many_processes_share_the_batch(name: str) -> None:
    objective = TABLE[name].make(World())
    student = student_of(perceptron(), objective.targets)
    data = points(8).float()
    whole = loss_of(objective, student, Batch(data), rng=step_rng(3))
    if not isinstance(objective, (ConsistencyDistillation, ConsistencyTraining)):
        objective = _without_forced_ends(objective)
        whole = loss_of(objective, student, Batch(data), rng=step_rng(3))
    halves = [loss_of(objective, student, Batch(data[4 * r : 4 * r + 4]), rng=step_rng(3, r, 2)) for r in range(2)]
    torch.testing.assert_close(torch.cat([half.per_sample for half in halves]), whole.per_sample)
    torch.testing.assert_close(torch.cat([half.at.sigma for half in halves]), whole.at.sigma, rtol=0, atol=0)
    other = loss_of(objective, student, Batch(data), rng=step_rng(4))
    assert not torch.equal(other.at.sigma, whole.at.sigma)


def _without_forced_ends(objective: Any) -> Any:
    if hasattr(objective, "times"):
        return replace(objective, times=TwoTimes(LogNormal(), 0.5))
    return replace(objective, density=LogNormal())


@pytest.mark.parametrize("name", TABLE)
def test_half_precision_networks_learn_nearly_what_float32_learns(name: str) -> None:
    objective, batch = TABLE[name].make(World(low=0.1, levels=3)), Batch(points(64).float())
    gradients = []
    for precision in ("float32", "bf16"):
        network, frozen = perceptron(), perceptron()
        roles: tuple[Role, ...] = ("student", "target")
        student, target = (  # as the training loop gives them
            student_of(
                AtPrecision(raw, CPU, "float32" if role in objective.in_float32 else precision), objective.targets
            )
            for role, raw in zip(roles, (network, frozen), strict=True)
        )
        loss = loss_of(objective, student, batch, target)
        assert loss.per_sample.dtype == torch.float32
        loss.value.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    single, half = gradients
    assert torch.equal(half, single) == ("student" in objective.in_float32)
    assert float((half - single).norm() / single.norm()) < 0.05


@pytest.mark.parametrize("name", TABLE)
def test_only_the_student_gets_a_gradient(name: str) -> None:
    networks = {role: perceptron(seed) for seed, role in enumerate(("student", "target", "teacher"))}
    teacher = student_of(networks["teacher"], Targets.SAME)
    objective = TABLE[name].make(World(teacher=teacher))
    student, target = (student_of(networks[role], objective.targets) for role in ("student", "target"))
    batch = Batch(points(8).float())
    loss = loss_of(objective, student, batch, target)
    loss.value.backward()
    assert all(p.grad is None for role in ("target", "teacher") for p in networks[role].parameters())
    apart = torch.cat([p.grad.flatten() for p in networks["student"].parameters() if p.grad is not None])
    uses = not torch.equal(loss.per_sample, loss_of(objective, student, batch, student).per_sample)
    assert uses == TABLE[name].target
    # where the target is the student itself, the answer still counts as a constant
    networks["student"].zero_grad()
    frozen = student_of(perceptron(1), objective.targets)
    loss_of(objective, student, batch, frozen).value.backward()
    again = torch.cat([p.grad.flatten() for p in networks["student"].parameters() if p.grad is not None])
    torch.testing.assert_close(again, apart)


@pytest.mark.parametrize("name", [n for n in PAIRS if TABLE[n].paths and TABLE[n].stationary != "in distribution"])
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

    loss_of(objective, spy("student"), Batch(points(32).float()), spy("target"))
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
        loss_of(objective, student_of(network, made.targets), Batch(points(32).float()))
        assert len(seen) == TABLE[name].calls
        if dropout:
            assert seen[0].dtype == torch.int64
            assert len(set(seen[0].tolist())) == 32
            assert all(torch.equal(keys, seen[0]) for keys in seen)
        else:
            assert all(keys is None for keys in seen)


@pytest.mark.parametrize("name", [name for name, case in TABLE.items() if len(case.make(World()).steps) > 1])
def test_each_network_has_its_loss_when_its_step_is_due_and_learns_from_it_alone(name: str) -> None:
    objective = TABLE[name].make(World())
    networks = {"student": perceptron(), **objective.modules}
    target = perceptron(1)
    for step in range(math.lcm(*(each.every for each in objective.steps.values()))):
        clock = Clock(step, 100)
        student, other = (student_of(raw, objective.targets) for raw in (networks["student"], target))
        losses = objective(student, other, Batch(points(8).float()), clock, step_rng(step))
        assert isinstance(losses, Mapping)
        assert set(losses) == {who for who, each in objective.steps.items() if each.is_due(clock)}
        for who, loss in losses.items():
            parameters = [p for network in (*networks.values(), target) for p in network.parameters()]
            gradients = torch.autograd.grad(loss.value, parameters, retain_graph=True, allow_unused=True)
            moved = {id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
            assert moved == {id(p) for p in networks[who].parameters()}


def test_the_target_decay_says_whether_there_is_a_target_network() -> None:
    decays = {name: case.make(World()).target_decay(START) for name, case in TABLE.items()}
    assert {name for name, decay in decays.items() if decay is not None} == {"CD, EMA target", "CT", "shortcut"}
    assert decays["CD, EMA target"] == 0.9
    assert all(decay is None or 0 < decay < 1 for decay in decays.values())


def test_the_grid_of_distillation_is_the_samplers() -> None:
    objective = ConsistencyDistillation(ORACLE, levels=18)
    np.testing.assert_array_equal(objective.ratios(0.0).flip(0).numpy(), karras(18).ratio)
    pinned = objective.ratios(0.002)
    assert float(pinned[0]) == 0.002
    assert len(pinned) == 18
    assert CLEAN.ratio == 0.0
