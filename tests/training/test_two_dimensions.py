"""From nothing to one step in two dimensions: a diffusion model and a consistency model distilled from it must reach
a stated distance from the data.

The distances are sliced Wasserstein distances of 4000 samples of data with a radius of about 0.8: two samples of the
data itself are up to 0.025 apart, a Gaussian of its mean and covariance is 0.13 away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fewstep.core.grids import karras
from fewstep.core.parameterisations import Edm, Parameterised, Targets
from fewstep.core.randomness import Noise
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.objectives import Batch, ConsistencyDistillation, Diffusion
from fewstep.objectives.distances import PseudoHuber
from fewstep.objectives.times import LogNormal
from fewstep.samplers import consistency, heun
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, train
from fewstep.training.optimizers import OptimizerConfig
from oracles import Mixture, sliced_wasserstein

DATA = Mixture.ring()
SIZE = 4000


@dataclass(frozen=True)
class Draws:
    """Fresh points of the mixture at each step."""

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step in range(first, last):
            yield Batch(torch.from_numpy(DATA.sample(np.random.default_rng((step, rank)), batch)).float())


def _config(steps: int, lr: float) -> TrainingConfig:
    return TrainingConfig(
        images=512 * steps,
        batch=512,
        optimizer=OptimizerConfig(kind="adamw", lr=lr, warmup=50, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.1),
        checkpoint_every=0,
    )


def _network() -> MLP:
    torch.manual_seed(0)
    return MLP(MLPConfig(width=96, depth=3, embedding=96))


def _distance(points: torch.Tensor) -> float:
    return sliced_wasserstein(points.numpy(), DATA.sample(np.random.default_rng(99), SIZE))


def _start(sigma: float) -> tuple[torch.Tensor, Noise]:
    noise = Noise(range(SIZE), (2,), torch.zeros(1))
    return sigma * noise(0), noise


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    objective = Diffusion(LogNormal(-0.6, 1.4))
    out: Path = tmp_path_factory.mktemp("teacher")
    return train(_network(), Edm(), objective, Draws(), _config(600, 3e-3), out)


def _last(jumps: Any) -> torch.Tensor:
    *_, end = jumps
    x: torch.Tensor = end.x
    return x


@torch.no_grad()
def test_a_diffusion_model_and_heun_reach_the_data(teacher: nn.Module) -> None:
    x, _ = _start(20.0)
    points = _last(heun(Parameterised(teacher, Edm(), Targets.SAME), x, karras(16, 0.01, 20.0), {}))
    assert _distance(points) < 0.03


def test_a_consistency_model_distilled_from_it_reaches_the_data_in_one_step(
    teacher: nn.Module, tmp_path: Path
) -> None:
    student = _network()
    student.load_state_dict(teacher.state_dict())
    objective = ConsistencyDistillation(
        Parameterised(teacher, Edm(), Targets.SAME),
        levels=8,
        distance=PseudoHuber(0.1),
        sigma_min=0.01,
        sigma_max=20.0,
    )
    untrained = Parameterised(teacher, Edm(), Targets.CLEAN)
    average = train(student, Edm(), objective, Draws(), _config(800, 2e-3), tmp_path)
    x, noise = _start(20.0)
    with torch.no_grad():
        distances = [
            _distance(_last(consistency(model, x, karras(1, 0.01, 20.0), {}, noise)))
            for model in (untrained, Parameterised(average, Edm(), Targets.CLEAN))
        ]
    assert distances[1] < 0.06
    assert distances[0] > 0.3
