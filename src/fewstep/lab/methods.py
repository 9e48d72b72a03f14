"""Every objective side by side: the same data, network, seeds and budget, counted in network evaluations."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from fewstep.core.arrays import Condition
from fewstep.core.parameterisations import Edm, Estimator, Network, Parameterised, Targets
from fewstep.lab.worlds import SIGMA_MIN, World
from fewstep.objectives import Batch
from fewstep.objectives.curricula import Clock
from fewstep.objectives.registry import OBJECTIVES, ConsistencyDistillationSettings
from fewstep.objectives.setup import ObjectiveSettings, TrainingSetup
from fewstep.recipes.two_stage import SIGMA_DATA
from fewstep.training.calling import AtPrecision, Precision
from fewstep.training.loop import train
from fewstep.training.step_rng import StepRng
from fewstep.training.warm_start import initialise, trainable_copy


@dataclass(frozen=True)
class Method:
    """A way to train a network.

    Args:
        settings: settings of its objective.
        start: the method whose network it starts from, "" for a freshly initialised one.
        rate: its learning rate, relative to that of the others.
    """

    settings: ObjectiveSettings
    start: str = ""
    rate: float = 1.0


STARTS = {
    "consistency_distillation": "diffusion",
    "easy_consistency": "diffusion",
    "truncated_consistency": "easy_consistency",
    "continuous_training": "diffusion",
    "continuous_distillation": "diffusion",
    "mean_flow_distillation": "diffusion",
    "eulerian_flow_map": "diffusion",
    "lagrangian_flow_map": "diffusion",
    "distribution_matching": "diffusion",
    "flow_map_distribution_matching": "mean_flow_distillation",
}
"""The method that each method starts from, for those that do not start from scratch."""

RATES = {"truncated_consistency": 0.1, "flow_map_distribution_matching": 0.2}
"""Both refine a network that is nearly right. At the full rate they make it worse: one has gaps as narrow as the
first stage's last, the other a score that has to follow the samples it moves."""


SETTINGS: dict[str, ObjectiveSettings] = {
    **OBJECTIVES,
    "consistency_distillation": ConsistencyDistillationSettings(sigma_min=SIGMA_MIN),
}

METHODS: dict[str, Method] = {
    name: Method(settings, STARTS.get(name, ""), RATES.get(name, 1.0)) for name, settings in SETTINGS.items()
}
"""The methods by name, each after the one it starts from."""


@dataclass
class CostCounter:
    """A network that counts its evaluations, per sample.

    A pass counts 1, one with a derivative in forward mode 2, one with a backward pass 3: the backward pass costs two.
    """

    network: Network
    evaluations: int = 0

    def __call__(self, x: Any, time_at: Any, time_to: Any, cond: Condition) -> Any:
        output: Tensor = self.network(x, time_at, time_to, cond)
        derived = forward_ad.unpack_dual(output).tangent is not None
        self.evaluations += int(x.shape[0]) * (3 if output.requires_grad else 2 if derived else 1)
        return output


@dataclass(frozen=True)
class TrainedMethod:
    """A method's network.

    Args:
        network: the trained network, frozen.
        targets: the jumps that it can make.
        images: training images that it saw.
        evaluations: network evaluations spent on its training, including its teacher's during it.
        before: network evaluations spent on the network it started from.
        precision: precision of its arithmetic, also when it serves as teacher.
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


def cost_of(settings: ObjectiveSettings, world: World, device: torch.device, samples: int = 64) -> float:
    """Network evaluations per training image, including those of the parent and of auxiliary networks.

    Counted with untrained networks, as the mean over enough steps that every network has taken one of its own.
    """
    counters = [CostCounter(world.network().to(device)) for _ in range(3)]
    of_student, of_parent, of_second = counters
    parent, second = (
        Parameterised(counter, Edm(SIGMA_DATA), settings.needs or Targets.SAME) for counter in (of_parent, of_second)
    )
    objective = settings.build(TrainingSetup(world.density, 1, parent, lambda: second))
    student = Parameterised(of_student, Edm(SIGMA_DATA), objective.targets)
    (batch,) = world.batches(0).stream(0, 1, samples, 0, 1)
    moved = Batch(batch.data.to(device), {name: values.to(device) for name, values in batch.cond.items()})
    for module in objective.modules.values():
        module.to(device)
    period = math.lcm(*(step.every for step in objective.steps.values()))
    for step in range(period):
        objective(student, student, moved, Clock(step, max(2, period)), StepRng(0, 0, device))
    return sum(counter.evaluations for counter in counters) / samples / period


def costs(names: Collection[str], world: World, device: torch.device) -> dict[str, float]:
    """The cost of each method by name, those that others start from first; also checks that every method runs."""
    return {name: cost_of(method.settings, world, device) for name, method in METHODS.items() if name in names}


def train_method(
    method: Method, world: World, budget: int, cost: float, seed: int, start: TrainedMethod | None
) -> TrainedMethod:
    """Train one method for a budget of network evaluations.

    Args:
        method: the method.
        world: the data and network.
        budget: network evaluations, including those of a teacher during training.
        cost: network evaluations per training image.
        seed: seed of data and noise.
        start: the trained method that it starts from; None to start from scratch.

    Raises:
        TrainingDiverged: a loss or gradient was no longer finite.
    """
    network = world.network()
    if start is not None:
        initialise(network, start.network)
    config = world.training(max(1, round(budget / cost)), seed)
    config = replace(config, optimizer=replace(config.optimizer, lr=config.optimizer.lr * method.rate))
    setup = TrainingSetup(world.density, config.steps(1))
    if start is not None:
        second = partial(trainable_copy, network, Edm(SIGMA_DATA), config)
        setup = replace(setup, parent=start.estimator, copy_student=second)
    objective = method.settings.build(setup)
    with tempfile.TemporaryDirectory() as folder:
        average = train(network, Edm(SIGMA_DATA), objective, world.batches(seed), config, Path(folder))
    images = config.steps(1) * config.batch
    before = 0 if start is None else start.evaluations + start.before
    network, spent = average.eval().requires_grad_(False), round(images * cost)
    return TrainedMethod(network, objective.targets, images, spent, before, world.precision)
