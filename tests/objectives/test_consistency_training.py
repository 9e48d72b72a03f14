"""Formula parity with consistency training (2303.01469 alg. 3, app. C) and its improved form (2310.14189),
written out from the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.core.parameterisations import Targets
from fewstep.objectives import Batch, ConsistencyTraining
from fewstep.objectives.curricula import Clock
from students import Dictated, student_of

EPSILON, T, RHO, SD = 0.002, 80.0, 7.0, 0.5


def times(n: int) -> np.ndarray:
    """t_1 … t_N = (ε^{1/ρ} + (i − 1)/(N − 1)·(T^{1/ρ} − ε^{1/ρ}))^ρ."""
    i = np.arange(1, n + 1)
    low, high = EPSILON ** (1 / RHO), T ** (1 / RHO)
    return (low + (i - 1) / (n - 1) * (high - low)) ** RHO


def consistency_function(shift: float, x: Tensor, t: Tensor) -> Tensor:
    """c_skip(t)·x + c_out(t)·F(c_in·x, t) with app. C's boundary; F = sin(2x + shift) + time."""
    t = t[:, None]
    c_skip = SD**2 / ((t - EPSILON) ** 2 + SD**2)
    c_out = SD * (t - EPSILON) / torch.sqrt(SD**2 + t**2)
    c_in = 1 / torch.sqrt(t**2 + SD**2)
    return c_skip * x + c_out * (torch.sin(2 * c_in * x + shift) + torch.atan(t / SD))


def network(shift: float) -> object:
    def raw(x: Tensor, at: Tensor, to: Tensor, cond: object) -> Tensor:
        return torch.sin(2 * x + shift) + at[:, None]

    return student_of(raw, Targets.CLEAN, EPSILON)


def draws(size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    normal = [torch.randn(size, 6, generator=generator, dtype=torch.float64) for _ in range(2)]
    return 0.5 * normal[0], normal[1], torch.rand(size, generator=generator, dtype=torch.float64)


CLOCK = Clock(30, 100)
N_CT = math.ceil(math.sqrt(0.3 * (151**2 - 2**2) + 2**2) - 1) + 1


def test_ct_is_algorithm_3() -> None:
    data, z, u = draws(32)
    t = torch.from_numpy(times(N_CT))
    n = torch.floor(u * (N_CT - 1)).long()  # n ~ U[1, N − 1], from 0 here
    upper, lower = t[n + 1], t[n]
    student = consistency_function(0.0, data + upper[:, None] * z, upper)
    answer = consistency_function(0.4, data + lower[:, None] * z, lower)
    expected = (student - answer).square().sum(dim=1)
    objective = ConsistencyTraining.ct()
    loss = objective(network(0.0), network(0.4), Batch(data), CLOCK, Dictated([z], [u]))  # type: ignore[arg-type]
    torch.testing.assert_close(loss.at.ratio, upper)
    torch.testing.assert_close(loss.per_sample, expected)
    torch.testing.assert_close(loss.value, expected.mean())


def test_cts_target_decays_by_mu_of_k() -> None:
    assert ConsistencyTraining.ct().target_decay(CLOCK) == pytest.approx(math.exp(2 * math.log(0.9) / N_CT))


def test_cts_settings_can_be_changed() -> None:
    changed = ConsistencyTraining.ct(decay=None, sigma_max=40.0)
    assert changed.target_decay(CLOCK) is None
    assert (changed.sigma_max, changed.gap_weight) == (40.0, False)


def test_ict_is_its_weight_density_and_distance() -> None:
    data, z, u = draws(64)
    # K' = ⌊100/(log2⌊1280/10⌋ + 1)⌋ = 12; N(30) = min(10·2^⌊30/12⌋, 1280) + 1
    levels = 10 * 2**2 + 1
    sigma = times(levels)
    edge = [math.erf((math.log(s) + 1.1) / (math.sqrt(2) * 2.0)) for s in sigma]
    p = np.diff(edge)
    i = torch.from_numpy(np.searchsorted(np.cumsum(p / p.sum()), u.numpy(), side="right"))
    upper, lower = torch.from_numpy(sigma)[i + 1], torch.from_numpy(sigma)[i]
    student = consistency_function(0.0, data + upper[:, None] * z, upper)
    answer = consistency_function(0.4, data + lower[:, None] * z, lower)
    c = 0.00054 * math.sqrt(6)
    distance = torch.sqrt((student - answer).square().sum(dim=1) + c**2) - c
    expected = distance / (upper - lower)
    objective = ConsistencyTraining()
    loss = objective(network(0.0), network(0.4), Batch(data), CLOCK, Dictated([z], [u]))  # type: ignore[arg-type]
    torch.testing.assert_close(loss.at.ratio, upper)
    torch.testing.assert_close(loss.per_sample, expected)
    assert objective.target_decay(CLOCK) is None


def test_at_the_first_level_the_answer_is_the_data_with_its_last_noise() -> None:
    data, z, _ = draws(4)
    u = torch.zeros(4, dtype=torch.float64)
    upper = torch.from_numpy(times(11))[1]
    student = consistency_function(0.0, data + upper * z, upper.expand(4))
    expected = (student - (data + EPSILON * z)).square().sum(dim=1)
    objective = ConsistencyTraining.ct(levels=lambda clock: 11)
    loss = objective(network(0.0), network(9.9), Batch(data), CLOCK, Dictated([z], [u]))  # type: ignore[arg-type]
    torch.testing.assert_close(loss.per_sample, expected)
