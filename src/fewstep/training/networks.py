"""The networks of a run: the student, its averages, and auxiliary networks that the objective trains."""

from __future__ import annotations

import logging

from torch import nn

from fewstep.core.parameterisations import Estimator, Parameterisation, Parameterised
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import Objective
from fewstep.training.calling import AtPrecision, Precision, uses_bf16
from fewstep.training.checkpoints import Stateful
from fewstep.training.config import TrainingConfig
from fewstep.training.steps import STUDENT
from fewstep.training.strategy import Strategy

log = logging.getLogger(__name__)


class Networks:
    """The networks of a run, on the device that they are trained on.

    `network` is the bare student and `wrapped` the one that its loss calls; derivatives and targets use bare
    networks, since forward-mode differentiation does not pass through wrappers that share gradients (torch 2.11).

    Args:
        network: the student.
        parameterisation: how its output is interpreted.
        objective: the objective, which determines the networks and their precisions.
        config: the training settings.
        total: total number of optimiser steps.
        strategy: how the networks are distributed over processes.
    """

    def __init__(
        self,
        network: nn.Module,
        parameterisation: Parameterisation,
        objective: Objective,
        config: TrainingConfig,
        total: int,
        strategy: Strategy,
    ) -> None:
        self._objective, self._config, self._strategy = objective, config, strategy
        self._parameterisation = parameterisation
        self.network = strategy.place(network, config.channels_last)
        self.wrapped = strategy.wrap(self.network)
        self.average = strategy.average(self.network)
        follows = objective.target_decay(Clock(0, total)) is not None
        self._follower = strategy.average(self.network) if follows else None
        modules = {name: strategy.place(module, config.channels_last) for name, module in objective.modules.items()}
        self.learning: dict[str, nn.Module] = {STUDENT: self.network, **modules}
        exact = objective.in_float32 if uses_bf16(config.precision, strategy.device.type) else ()
        if exact:
            log.info("%s in float32: bf16 is too coarse for this objective", " and ".join(exact))
        self.student = self._estimator(self.wrapped, STUDENT in exact, config.graphs)
        target = self.network if self._follower is None else self._follower
        self.target = self._estimator(target, "target" in exact, config.graphs)

    @property
    def averaged(self) -> Estimator:
        """The average as an estimator."""
        return self._estimator(self.average)

    def _estimator(self, network: nn.Module, exact: bool = False, graphs: bool = False) -> Estimator:
        precision: Precision = "float32" if exact else self._config.precision
        called = AtPrecision(network, self._strategy.device, precision, graphs)
        return Parameterised(called, self._parameterisation, self._objective.targets)

    def follow(self, clock: Clock, steps: int) -> None:
        """Update the averages after the student's step.

        Args:
            clock: clock of the run.
            steps: steps that the student has taken, including this one.
        """
        self._strategy.update(self.average, self.network, self._config.ema.at(steps))
        if self._follower is not None:
            decay = self._objective.target_decay(clock)
            self._strategy.update(self._follower, self.network, 0.0 if decay is None else decay)

    @property
    def states(self) -> dict[str, Stateful]:
        """The states that a checkpoint saves, by name."""
        averages = {"average": self.average}
        if self._follower is not None:
            averages["target"] = self._follower
        learning = {name: self._strategy.state(module, module) for name, module in self.learning.items()}
        return learning | {name: self._strategy.state(each, self.network) for name, each in averages.items()}
