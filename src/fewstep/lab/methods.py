"""Every objective side by side: the same data, network, seeds and budget, counted in evaluations of the network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from fewstep.core.arrays import Condition
from fewstep.core.parameterisations import Edm, Estimator, Network, Parameterised, Targets
from fewstep.lab.worlds import SIGMA_DATA, SIGMA_MIN, World
from fewstep.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    ContinuousConsistency,
    Diffusion,
    EasyConsistency,
    FlowMapDistillation,
    FlowMatching,
    MeanFlow,
    Objective,
    Shortcut,
    TruncatedConsistency,
)
from fewstep.objectives.curricula import Clock
from fewstep.objectives.times import Density, Halves, TwoTimes
from fewstep.recipes.common import initialise
from fewstep.training.calling import AtPrecision, Precision
from fewstep.training.loop import train
from fewstep.training.randomness import StepRng


@dataclass(frozen=True)
class Stage:
    """What an objective is made from.

    Args:
        density: of noise levels.
        steps: of training.
        start: the trained network that this one starts from, as an estimator; None from scratch.
    """

    density: Density
    steps: int
    start: Estimator | None

    @property
    def teacher(self) -> Estimator:
        if self.start is None:
            raise ValueError("this method starts from another one")
        return self.start

    def pairs(self, apart: float) -> TwoTimes:
        return TwoTimes(self.density, apart)


@dataclass(frozen=True)
class Method:
    """A way to train.

    Args:
        objective: made for its stage.
        start: the method whose network it starts from, "" for a fresh one.
        rate: of learning, in that of the others.
    """

    objective: Callable[[Stage], Objective]
    start: str = ""
    rate: float = 1.0


METHODS: dict[str, Method] = {
    "diffusion": Method(lambda s: Diffusion(s.density)),
    "flow_matching": Method(lambda s: FlowMatching(s.density)),
    "consistency_distillation": Method(
        lambda s: ConsistencyDistillation(s.teacher, sigma_min=SIGMA_MIN), "diffusion"
    ),
    "consistency_training": Method(lambda s: ConsistencyTraining()),
    "easy_consistency": Method(lambda s: EasyConsistency(dropout=False), "diffusion"),
    # it refines a network that is nearly right: at the whole rate, gaps as narrow as its own make that one worse
    "truncated_consistency": Method(lambda s: TruncatedConsistency(s.teacher), "easy_consistency", rate=0.1),
    # without the published weight: it is largest where the tangent is small already, and drowns the other levels
    "continuous_training": Method(lambda s: ContinuousConsistency(weight=None, warmup=s.steps // 5), "diffusion"),
    "continuous_distillation": Method(
        lambda s: ContinuousConsistency(s.teacher, weight=None, warmup=s.steps // 5), "diffusion"
    ),
    "mean_flow": Method(lambda s: MeanFlow(s.pairs(0.5))),
    "improved_mean_flow": Method(lambda s: MeanFlow(s.pairs(0.5), improved=True)),
    "mean_flow_distillation": Method(lambda s: MeanFlow(s.pairs(0.75), s.teacher), "diffusion"),
    # without the published moving average for a target: over 1 000 steps, it would be longer than a short training
    "shortcut": Method(lambda s: Shortcut(Halves(), decay=None)),
    "soflow": Method(lambda s: Shortcut.soflow(times=s.pairs(0.5))),
    "eulerian_flow_map": Method(
        lambda s: FlowMapDistillation(s.teacher, "eulerian", s.pairs(1.0), s.steps // 5), "diffusion"
    ),
    "lagrangian_flow_map": Method(
        lambda s: FlowMapDistillation(s.teacher, "lagrangian", s.pairs(1.0), s.steps // 5), "diffusion"
    ),
}
"""Each method after what it starts from."""


@dataclass
class Counted:
    """A network that counts its evaluations of samples.

    A pass counts 1, one with a derivative in forward mode 2, one that is learned from 3: the way back costs two.
    """

    network: Network
    evaluations: int = 0

    def __call__(self, x: Tensor, time_at: Tensor, time_to: Tensor, cond: Condition) -> Tensor:
        output: Tensor = self.network(x, time_at, time_to, cond)
        derived = forward_ad.unpack_dual(output).tangent is not None  # type: ignore[no-untyped-call]
        self.evaluations += int(x.shape[0]) * (3 if output.requires_grad else 2 if derived else 1)
        return output


@dataclass(frozen=True)
class Trained:
    """A method's network.

    Args:
        network: frozen.
        targets: which jumps it makes.
        images: it was trained on.
        evaluations: spent on it, those of its teacher in training it included.
        before: spent on the network it started from.
        precision: of its arithmetic, as a teacher too.
    """

    network: nn.Module
    targets: Targets
    images: int
    evaluations: int
    before: int
    precision: Precision = "float32"

    @property
    def estimator(self) -> Estimator:
        called = AtPrecision(self.network, next(self.network.parameters()).device, self.precision)
        return Parameterised(called, Edm(SIGMA_DATA), self.targets)


def cost_of(objective: Objective, world: World, device: torch.device, samples: int = 64) -> float:
    """Evaluations of one image in one step, the teacher's included: by counting some."""
    counted = [Counted(world.network().to(device))]
    student = Parameterised(counted[0], Edm(SIGMA_DATA), objective.targets)
    watched: Any = objective
    for name in ("teacher", "first"):
        part = getattr(objective, name, None)
        if isinstance(part, Parameterised):
            counted.append(Counted(part.network))
            watched = replace(watched, **{name: replace(part, network=counted[-1])})
    (batch,) = world.batches(0).stream(0, 1, samples, 0, 1)
    moved = Batch(batch.data.to(device), {name: values.to(device) for name, values in batch.cond.items()})
    for module in objective.modules.values():
        module.to(device)
    watched(student, student, moved, Clock(0, 2), StepRng(0, 0, device))
    return sum(each.evaluations for each in counted) / samples


def costs(names: Collection[str], world: World, device: torch.device) -> dict[str, float]:
    """What methods cost, with untrained networks where they start from others: also a trial of them all."""
    found: dict[str, float] = {}
    makes: dict[str, Targets] = {}
    for name, method in METHODS.items():
        if name in names:
            start = None
            if method.start:
                start = Trained(world.network().to(device), makes[method.start], 0, 0, 0, world.precision).estimator
            objective = method.objective(Stage(world.density, 1, start))
            makes[name], found[name] = objective.targets, cost_of(objective, world, device)
    return found


def train_method(method: Method, world: World, budget: int, cost: float, seed: int, start: Trained | None) -> Trained:
    """Train one method for a budget of network evaluations.

    Args:
        method: how.
        world: on what.
        budget: evaluations, those of a teacher in training included.
        cost: evaluations for one image.
        seed: of data and noise.
        start: what it starts from, None for a fresh network.

    Raises:
        TrainingDiverged: a loss or gradient was no longer finite.
    """
    network = world.network()
    if start is not None:
        initialise(network, start.network)
    config = world.training(max(1, round(budget / cost)), seed)
    config = replace(config, optimizer=replace(config.optimizer, lr=config.optimizer.lr * method.rate))
    estimator = None if start is None else start.estimator
    objective = method.objective(Stage(world.density, config.steps(1), estimator))
    with tempfile.TemporaryDirectory() as folder:
        average = train(network, Edm(SIGMA_DATA), objective, world.batches(seed), config, Path(folder))
    images = config.steps(1) * config.batch
    before = 0 if start is None else start.evaluations + start.before
    network, spent = average.eval().requires_grad_(False), round(images * cost)
    return Trained(network, objective.targets, images, spent, before, world.precision)
