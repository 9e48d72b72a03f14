"""Small things to train in tests: networks that have moved off their zero starts, an exact estimator with a
learnable error, and random numbers that a test dictates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.core.arrays import Array, Condition, per_sample
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Edm, Estimator, Parameterised, Targets
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.training.step_rng import StepRng

CPU = torch.device("cpu")


def stirred(network: nn.Module, seed: int = 0, size: float = 0.1) -> nn.Module:
    """The network with noise on every parameter, so that nothing is hidden behind a zero start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return network


def perceptron(seed: int = 0, **settings: Any) -> MLP:
    torch.manual_seed(seed)
    network = stirred(MLP(MLPConfig(**{"width": 32, "depth": 2, "embedding": 32, **settings})), seed)
    assert isinstance(network, MLP)
    return network


def student_of(network: Any, targets: Targets, epsilon: float = 0.0) -> Parameterised:
    return Parameterised(network, Edm(0.5, epsilon), targets)


def step_rng(step: int = 0, rank: int = 0, world: int = 1) -> StepRng:
    return StepRng(11, step, CPU, rank, world)


class WithError(nn.Module):
    """An exact estimator plus Σ θ_k·φ_k(x, level), which vanishes at clean as a consistency function must and
    depends on the point of the trajectory alone, not on the path's scale."""

    def __init__(self, exact: Estimator, theta: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> None:
        super().__init__()
        self.exact = exact
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))
        self.targets, self.epsilon = exact.targets, exact.epsilon

    def forward(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Tensor:
        exact: Tensor = self.exact(x, at, to, cond)
        return exact + self.error(x, at)

    def error(self, x: Tensor, at: Level) -> Tensor:
        y = x * per_sample(1 / at.magnitude(), x)
        noisy = per_sample(at.sigma / at.magnitude(), x)
        features = torch.stack([torch.ones_like(y), y, torch.tanh(2 * y), noisy * torch.cos(2 * y)])
        return noisy * torch.tensordot(self.theta.to(x.dtype), features, dims=1)


@dataclass
class Dictated:
    """An `Rng` that gives these numbers, in the order in which they are asked for."""

    normals: list[Tensor] = field(default_factory=list)
    uniforms: list[Tensor] = field(default_factory=list)

    def normal(self, shape: Sequence[int]) -> Array:
        return _checked(self.normals.pop(0), shape)

    def uniform(self, shape: Sequence[int]) -> Array:
        return _checked(self.uniforms.pop(0), shape)


def _checked(numbers: Tensor, shape: Sequence[int]) -> Tensor:
    assert tuple(numbers.shape) == tuple(shape)
    return numbers
