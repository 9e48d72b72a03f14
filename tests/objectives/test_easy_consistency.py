"""Formula parity with Easy Consistency Tuning (2406.14548 eq. 20, §3.3, app. A), written out from the paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.parameterisations import Targets
from fewstep.objectives import Batch, Diffusion, EasyConsistency
from fewstep.objectives.curricula import Clock, EctGap
from fewstep.objectives.distances import Norm, PseudoHuber, Squared
from fewstep.objectives.times import LogNormal
from students import Dictated, perceptron, student_of

SD = 0.5


def estimate(shift: float, x: Tensor, t: Tensor) -> Tensor:
    """EDM's preconditioning without a boundary; F = sin(2x + shift) + time."""
    t = t[:, None]
    c_skip, c_out = SD**2 / (t**2 + SD**2), t * SD / torch.sqrt(t**2 + SD**2)
    c_in = 1 / torch.sqrt(t**2 + SD**2)
    return c_skip * x + c_out * (torch.sin(2 * c_in * x + shift) + torch.atan(t / SD))


def network(shift: float) -> Any:
    return student_of(lambda x, at, to, cond: torch.sin(2 * x + shift) + at[:, None], Targets.CLEAN)


def draws() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    data, noise = (torch.randn(64, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    return 0.5 * data, noise, torch.randn(64, generator=generator, dtype=torch.float64)


def pairs(z: Tensor, mean: float, std: float, q: float, a: int) -> tuple[Tensor, Tensor]:
    """t, and r = t·max(0, 1 − n(t)/q^a) with n(t) = 1 + 8·sigmoid(−t)."""
    t = torch.exp(mean + std * z)
    n = 1 + 8 / (1 + torch.exp(t))
    return t, t * torch.clamp(1 - n / q**a, min=0)


@pytest.mark.parametrize(("step", "a"), [(0, 1), (30, 3), (99, 8)])
def test_the_loss_at_32_pixels(step: int, a: int) -> None:
    data, noise, z = draws()
    t, r = pairs(z, -1.1, 2.0, 2.0, a)
    student = estimate(0.0, data + t[:, None] * noise, t)
    answer = estimate(0.4, data + r[:, None] * noise, r)
    answer = torch.where((r == 0)[:, None], data, answer)
    expected = (student - answer).norm(dim=1) / (t - r)
    objective = EasyConsistency(distance=Norm(floor=1e-20), dropout=False)
    loss = objective(network(0.0), network(0.4), Batch(data), Clock(step, 100), Dictated([z, noise]))
    torch.testing.assert_close(loss.per_sample, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss.at.ratio, t)
    torch.testing.assert_close(loss.scalars["gap"], (1 - r / t).mean())
    assert bool((r == 0).any()) == (a < 3)


def test_the_loss_at_64_pixels() -> None:
    data, noise, z = draws()
    t, r = pairs(z, -0.8, 1.6, 4.0, 2)
    student = estimate(0.0, data + t[:, None] * noise, t)
    answer = estimate(0.4, data + r[:, None] * noise, r)
    c = 0.06
    distance = torch.sqrt((student - answer).square().sum(dim=1) + c**2) - c
    expected = distance * (1 / t**2 + 1 / SD**2)
    objective = EasyConsistency(
        LogNormal(-0.8, 1.6), EctGap(q=4.0, stages=4), PseudoHuber(c), weight="edm", dropout=False
    )
    loss = objective(network(0.0), network(0.4), Batch(data), Clock(25, 100), Dictated([z, noise]))
    torch.testing.assert_close(loss.per_sample, expected)


def test_where_r_is_0_it_is_diffusion() -> None:
    """Loss and gradient of a network that does not look where it is to jump, EDM's weight on both sides."""
    data, noise, z = draws()
    results = []
    for objective in (
        EasyConsistency(LogNormal(), EctGap(q=1.0), Squared(), weight="edm", dropout=False),
        Diffusion(LogNormal()),
    ):
        network = perceptron(dims=6).double()
        student = student_of(lambda x, at, to, cond, net=network: net(x, at, at, cond), objective.targets)
        loss = objective(student, student, Batch(data), Clock(0, 1), Dictated([z, noise]))
        loss.value.backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        results.append((loss.per_sample, gradient))
    # the squared distance of a sample there is a sum, diffusion's a mean
    for easy, denoised in zip(*results, strict=True):
        torch.testing.assert_close(easy / 6, denoised)


def test_the_defaults_are_the_papers_for_32_pixels() -> None:
    objective = EasyConsistency()
    assert objective.density == LogNormal(-1.1, 2.0)
    assert (objective.gap.q, objective.gap.k, objective.gap.b) == (2.0, 8.0, 1.0)
    assert (objective.weight, objective.dropout) == ("gap", True)
    assert objective.target_decay(Clock(0, 1)) is None


def test_the_default_norms_floor_is_below_the_distances_of_close_levels() -> None:
    """In two dimensions two estimates near the clean end are as close as 1e-4."""
    a, b = torch.zeros(1, 2), torch.full((1, 2), 1e-4)
    assert float(EasyConsistency().distance(a, b)) == pytest.approx(2**0.5 * 1e-4, rel=0.02)


def test_the_gradient_is_finite_where_both_branches_agree() -> None:
    data = torch.zeros(4, 3, dtype=torch.float64)
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    student = student_of(lambda x, *_: weight * torch.cos(x), Targets.CLEAN)
    zero, draws = torch.zeros(4, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    loss = EasyConsistency(dropout=False)(student, student, Batch(data), Clock(0, 1), Dictated([draws, zero]))
    loss.value.backward()
    assert weight.grad is not None
    assert math.isfinite(float(weight.grad))
