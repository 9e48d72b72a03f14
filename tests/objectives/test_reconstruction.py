"""Reconstruction: the distance of pictures, and how noise is drawn for the latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import Batch
from fewstep.objectives.reconstruction import Reconstruction, gradient_error
from fewstep.training.step_rng import StepRng


@dataclass
class Recorded:
    """A student that gives a fixed answer and keeps what it was asked."""

    answer: Tensor
    targets: Targets = Targets.SAME
    epsilon: float = 0.0
    seen: list[tuple[Level, Mapping[str, Tensor]]] = field(default_factory=list)

    def __call__(self, x: Tensor, at: Level, to: Level, cond: Mapping[str, Tensor]) -> Tensor:
        self.seen.append((at, cond))
        return self.answer


def step(objective: Reconstruction, pixels: Tensor, answer: Tensor, number: int = 0) -> tuple[float, Recorded]:
    student = Recorded(answer)
    rng = StepRng(0, number, torch.device("cpu"))
    loss = objective(student, student, Batch(pixels), Clock(number, 10), rng)
    assert loss.per_sample.shape == (len(pixels),)
    assert loss.value == pytest.approx(loss.per_sample.mean().item())
    return float(loss.per_sample.mean()), student


def pictures(count: int = 4) -> Tensor:
    return torch.rand(count, 4, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_wanted_picture_is_stretched_by_the_margin_and_costs_nothing() -> None:
    objective, pixels = Reconstruction(margin=0.1), pictures()
    assert step(objective, pixels, pixels * 1.2 - 0.1)[0] == pytest.approx(0, abs=1e-6)
    assert step(objective, pixels, pixels)[0] > 0.01


def test_noise_is_as_large_as_the_latents_and_its_strength_evenly_spread() -> None:
    objective, pixels = Reconstruction(latents=8, factor=16, noise=0.5), pictures(64)
    _, student = step(objective, pixels, pixels)
    ((at, cond),) = student.seen
    assert cond["noise"].shape == (64, 8, 2, 2)
    assert float(cond["noise"].std()) == pytest.approx(1, abs=0.1)
    assert float(at.sigma.max()) < 0.5
    assert float(at.sigma.mean()) == pytest.approx(0.25, abs=0.06)
    assert torch.all(at.alpha == 1)
    assert not torch.equal(step(objective, pixels, pixels, number=1)[1].seen[0][0].sigma, at.sigma)


def test_a_gradient_error_is_that_of_steps_and_blind_to_an_even_shift() -> None:
    flat = torch.zeros(1, 1, 4, 4)
    assert float(gradient_error(flat + 0.7)) == 0
    stairs = flat + torch.arange(4.0)
    assert float(gradient_error(stairs)) == pytest.approx(0.5)  # 1 along rows, 0 along columns


def test_an_error_of_shade_weighs_more_than_one_that_averages_out() -> None:
    objective, zero = Reconstruction(edges=0), torch.zeros(1, 4, 8, 8)
    shade = zero + 0.05
    checks = 0.05 * (1 - 2 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2)).float().expand(1, 4, 8, 8)
    assert float(objective.distance(shade, zero)) == pytest.approx(3 * float(objective.distance(checks, zero)))


def test_small_errors_count_squared_and_large_ones_as_they_are() -> None:
    objective, zero = Reconstruction(edges=0, scales=0, beta=0.1), torch.zeros(1, 4, 8, 8)
    assert float(objective.distance(zero + 0.02, zero)) == pytest.approx(0.5 * 0.02**2 / 0.1)
    assert float(objective.distance(zero + 0.5, zero)) == pytest.approx(0.5 - 0.05)


@pytest.mark.parametrize(("setting", "value"), [("noise", -1.0), ("edges", -0.1), ("beta", 0.0), ("margin", -0.1)])
def test_settings_that_cannot_be(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        Reconstruction(**{setting: value})
