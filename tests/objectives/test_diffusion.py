"""Formula parity with EDM (2206.00364), written out from the paper."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.core.levels import Level, Linear, from_ratio
from fewstep.core.parameterisations import Targets
from fewstep.objectives import Batch, Diffusion
from fewstep.objectives.curricula import Clock
from fewstep.objectives.diffusion import edm_weight
from fewstep.objectives.objective import noised, on_path
from fewstep.objectives.times import LogNormal
from students import Dictated, student_of
from subjects import PATHS, tensor


def raw(x: torch.Tensor, time: torch.Tensor, time_to: torch.Tensor, cond: object) -> torch.Tensor:
    """F_θ: any function of x and the time."""
    return torch.tanh(1.5 * x) + time[:, None, None] - 0.5 * time_to[:, None, None]


def test_the_loss_is_equation_8_with_table_1() -> None:
    y, n, z = (torch.randn(*shape, dtype=torch.float64) for shape in ((6, 3, 2), (6, 3, 2), (6,)))
    sd = 0.5
    sigma = torch.exp(-1.2 + 1.2 * z)[:, None, None]
    noisy = y + sigma * n
    c_skip = sd**2 / (sigma**2 + sd**2)
    c_out = sigma * sd / torch.sqrt(sd**2 + sigma**2)
    c_in = 1 / torch.sqrt(sd**2 + sigma**2)
    time = torch.atan(sigma / sd)  # own networks' time instead of ¼·ln σ
    denoised = c_skip * noisy + c_out * (torch.tanh(1.5 * c_in * noisy) + time - 0.5 * time)
    weight = (sigma**2 + sd**2) / (sigma * sd) ** 2
    expected = (weight * (denoised - y) ** 2).mean(dim=(1, 2))
    student = student_of(raw, Targets.SAME)
    loss = Diffusion()(student, student, Batch(y), Clock(0, 1), Dictated([z, n]))
    torch.testing.assert_close(loss.per_sample, expected)
    torch.testing.assert_close(loss.value, expected.mean())
    torch.testing.assert_close(loss.at.ratio, sigma.flatten())


def test_the_default_density_is_edms() -> None:
    assert Diffusion().density == LogNormal(-1.2, 1.2)


@pytest.mark.parametrize("path", PATHS)
def test_the_weight_makes_the_networks_own_error_count_evenly_on_every_path(path: str) -> None:
    at = PATHS[path].level(tensor([0.3, 0.9]))
    student = student_of(lambda x, *_: 0 * x, Targets.SAME)
    off = student_of(lambda x, *_: 0 * x + 0.3, Targets.SAME)
    x = tensor([[0.4], [-0.2]])
    error = (off(x, at, at, {}) - student(x, at, at, {})).square()[:, 0]
    torch.testing.assert_close(error * edm_weight(at, 0.5), tensor([0.09, 0.09]))


def test_the_weight_follows_sigma_data() -> None:
    at = from_ratio(tensor([0.7]))
    assert float(edm_weight(at, 0.25)) == pytest.approx((0.7**2 + 0.25**2) / (0.7 * 0.25) ** 2)


@pytest.mark.parametrize("path", PATHS)
def test_noising_keeps_the_ratio_even_beyond_a_paths_bounds(path: str) -> None:
    data, noise = tensor([[1.0], [2.0], [3.0], [-1.0]]), tensor([[0.5], [-1.0], [1.0], [2.0]])
    ratio = tensor([1e-4, 0.3, 5.0, 500.0])
    x, at, given = noised(data, ratio, Dictated([noise]), PATHS[path])
    torch.testing.assert_close(at.ratio, ratio)
    torch.testing.assert_close(x, at.alpha[:, None] * data + at.sigma[:, None] * noise)
    assert given is noise or torch.equal(given, noise)
    inside = PATHS[path].level(PATHS[path].time(Level(1 / ratio[1:3], torch.ones(2, dtype=torch.float64))))
    torch.testing.assert_close(at.sigma[1:3], inside.sigma, rtol=1e-6, atol=0)


def test_clean_stays_clean_on_every_path() -> None:
    for path in PATHS.values():
        level = on_path(from_ratio(tensor([0.0, 0.5])), path)
        assert float(level.sigma[0]) == 0.0
        assert float(level.alpha[0]) == 1.0


def test_pure_noise_is_reached_where_the_ratio_is_out_of_a_doubles_reach() -> None:
    level = on_path(from_ratio(tensor([1e30])), Linear())
    assert (float(level.alpha), float(level.sigma)) == (0.0, 1.0)
    assert math.isfinite(float(edm_weight(level, 0.5)))
