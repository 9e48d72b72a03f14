"""Moving averages: EDM2's power function (2312.02696 §3.1) and constant decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fewstep.training.ema import EmaConfig, power, update


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_the_exponent_is_edm2s(sigma_rel: float, gamma: float) -> None:
    assert power(sigma_rel) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("sigma_rel", [0.02, 0.05, 0.15, 0.25])
def test_the_average_over_a_run_is_the_power_function_of_that_width(sigma_rel: float) -> None:
    """Unrolled, the weight of step t after T steps is ∝ t^γ; its deviation, relative to T, is σ_rel (eq. 2 and 3)."""
    steps = 4000
    weights = torch.zeros(steps, dtype=torch.float64)
    config = EmaConfig(sigma_rel=sigma_rel)
    for step in range(1, steps + 1):
        decay = config.at(step)
        weights *= decay
        weights[step - 1] = 1 - decay
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    assert float(weights.sum()) == pytest.approx(1.0)
    mean = (weights * t).sum()
    deviation = (weights * (t - mean) ** 2).sum().sqrt()
    assert float(deviation) == pytest.approx(sigma_rel, rel=0.02)
    gamma = power(sigma_rel)
    assert float(mean) == pytest.approx((gamma + 1) / (gamma + 2), rel=0.01)


def test_the_first_step_forgets_the_random_start() -> None:
    assert EmaConfig().at(1) == 0.0
    assert EmaConfig(decay=0.999).at(1) == pytest.approx(0.1)


def test_a_constant_decay_is_reached_from_below_and_kept() -> None:
    config = EmaConfig(decay=0.9)
    decays = [config.at(step) for step in range(1, 200)]
    assert decays == sorted(decays)
    assert decays[-1] == 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 1.0}, "at least 0 and below 1, got 1.0"),
        ({"decay": -0.1}, "at least 0 and below 1, got -0.1"),
        ({"sigma_rel": 0.0}, "above 0 and below 0.28, got 0.0"),
        ({"sigma_rel": 0.3}, "above 0 and below 0.28, got 0.3"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmaConfig(**settings)


def test_update_mixes_parameters_and_copies_buffers() -> None:
    average, current = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.fill_(1.0)
        current.weight.fill_(5.0)
        current.running_mean.fill_(3.0)  # type: ignore[union-attr]
    update(average, current, 0.75)
    assert average.weight.tolist() == [2.0, 2.0]
    assert current.weight.tolist() == [5.0, 5.0]
    assert average.running_mean.tolist() == [3.0, 3.0]  # type: ignore[union-attr]
    update(average, current, 0.0)
    assert torch.equal(average.weight, current.weight)
