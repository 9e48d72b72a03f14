"""The optimiser steps of a run: each network learns only from the loss of its own step, with its own optimisers,
learning rate, interval and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewstep.core.arrays import Array
from fewstep.core.levels import Level
from fewstep.objectives.curricula import Clock, cosine_decay, linear_warmup
from fewstep.objectives.objective import Loss, Step
from fewstep.training import optimizers
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.trainable import trainable

STUDENT = "student"


class Learner:
    """A network and its optimisers.

    Args:
        network: the network whose trainable parameters are updated.
        config: optimiser settings.
        step: step settings, with the share of the run's learning rate.
        clip: largest norm of its gradient.
        graphs: whether to run parts of the optimiser as CUDA graphs on a GPU.

    Raises:
        ValueError: the network has no trainable parameters.
    """

    def __init__(
        self, name: str, network: nn.Module, config: OptimizerConfig, step: Step, clip: float, graphs: bool
    ) -> None:
        self.parameters = list(trainable(network).values())
        if not self.parameters:
            raise ValueError(f"nothing to train: no parameter of '{name}' requires a gradient")
        self.optimizers = optimizers.build(network, config, graphs)
        self.clip = clip if step.clip is None else step.clip
        self._config, self._share = config, step.rate

    @property
    def rate(self) -> float:
        """The learning rate of the first optimiser."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    def set_rate(self, clock: Clock) -> None:
        """Follow the schedule, a function of the run's clock."""
        config = self._config
        factor = self._share * linear_warmup(clock, config.warmup) * cosine_decay(clock, config.decay_from)
        for optimizer in self.optimizers:
            base = config.muon_lr if isinstance(optimizer, optimizers.Muon) else config.lr
            for group in optimizer.param_groups:
                group["lr"] = base * factor

    def update(self) -> None:
        """Take an optimiser step and clear the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class Steps:
    """All learners of a run, by the step that updates them.

    Args:
        schedule: the objective's steps by name.
        learners: every trained network by name: those in `schedule`, and modules that are trained with the student.
    """

    schedule: Mapping[str, Step]
    learners: Mapping[str, Learner]

    def __post_init__(self) -> None:
        if STUDENT not in self.schedule:
            raise ValueError(f"an objective's steps must name the student, got {', '.join(self.schedule) or 'none'}")
        if unknown := sorted(set(self.schedule) - set(self.learners)):
            raise ValueError(f"steps names {', '.join(unknown)}, but the networks are {', '.join(self.learners)}")

    def due(self, clock: Clock) -> list[str]:
        """The names of the optimiser steps to take at this step of the run."""
        return [name for name, step in self.schedule.items() if step.is_due(clock)]

    def of(self, name: str) -> dict[str, Learner]:
        """The learners that a step updates."""
        with_student = set(self.learners) - set(self.schedule) if name == STUDENT else set()
        return {n: learner for n, learner in self.learners.items() if n == name or n in with_student}

    def backward(self, losses: Mapping[str, Loss], parts: int) -> None:
        """Accumulate the gradients of one micro-batch, those of each loss only in its own learners.

        Args:
            losses: losses of the steps that are due, by name.
            parts: number of micro-batches per step.
        """
        for index, (name, loss) in enumerate(losses.items()):
            parameters = [p for learner in self.of(name).values() for p in learner.parameters]
            more = index + 1 < len(losses)  # two losses may share a part of their graph
            torch.autograd.backward(loss.value / parts, inputs=parameters, retain_graph=more)

    def take(
        self,
        names: Sequence[str],
        clock: Clock,
        clip: Callable[[str, Sequence[nn.Parameter], float], Tensor],
    ) -> dict[str, Tensor]:
        """Take these optimiser steps.

        Args:
            names: names of the steps.
            clock: clock of the run.
            clip: function that clips the gradients of a named network to a norm and returns the norm they had.

        Returns:
            The norm of each network's gradient before clipping.
        """
        learners = {n: learner for name in names for n, learner in self.of(name).items()}
        norms = {n: clip(n, learner.parameters, learner.clip) for n, learner in learners.items()}
        for learner in learners.values():
            learner.set_rate(clock)
            learner.update()
        return norms

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """All optimisers, in the order in which they are saved."""
        return [optimizer for learner in self.learners.values() for optimizer in learner.optimizers]


def by_step(losses: Loss | Mapping[str, Loss], due: Sequence[str]) -> Mapping[str, Loss]:
    """An objective's losses by step.

    Raises:
        ValueError: they are not the losses of the steps that are due.
    """
    named: Mapping[str, Loss] = {STUDENT: losses} if isinstance(losses, Loss) else losses
    if set(named) != set(due):
        expected, got = (", ".join(sorted(names)) or "none" for names in (due, named))
        raise ValueError(f"an objective must return the losses of the steps that are due ({expected}), got {got}")
    return named


def merged(parts: Sequence[Mapping[str, Loss]]) -> dict[str, Loss]:
    """A step's losses, merged from those of its micro-batches and detached, for reports."""
    return {name: _merged([part[name] for part in parts]) for name in parts[0]}


def _merged(losses: Sequence[Loss]) -> Loss:
    def joined(each: Callable[[Loss], Array]) -> Tensor:
        return torch.cat([torch.as_tensor(each(loss)) for loss in losses])

    value = torch.stack([loss.value.detach() for loss in losses]).mean()
    at = Level(joined(lambda loss: loss.at.alpha), joined(lambda loss: loss.at.sigma))
    scalars = {name: torch.stack([loss.scalars[name] for loss in losses]).mean() for name in losses[0].scalars}
    return Loss(value, joined(lambda loss: loss.per_sample), at, scalars)
