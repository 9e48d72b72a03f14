"""One training loop for every objective, on a CPU, one GPU or several processes.

Batches and random numbers are functions of (seed, step, rank) and everything else is in the checkpoint, so running
the same command again resumes the run, bit for bit.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.core.parameterisations import Estimator, Parameterisation
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import Batch, Loss, Objective
from fewstep.training import checkpoints
from fewstep.training.batches import BatchSource
from fewstep.training.config import TrainingConfig
from fewstep.training.identity import identity
from fewstep.training.networks import Networks
from fewstep.training.reporting import Reporter
from fewstep.training.step_rng import StepRng
from fewstep.training.steps import STUDENT, Learner, Steps, by_step, merged
from fewstep.training.stopping import StopRequests, TrainingStopped
from fewstep.training.strategy import Replicate, Strategy
from fewstep.training.trainable import fingerprint

__all__ = ["Callback", "TrainingConfig", "TrainingDiverged", "TrainingState", "TrainingStopped", "train"]


class TrainingDiverged(RuntimeError):
    """A loss or gradient was no longer finite."""


@dataclass(frozen=True)
class TrainingState:
    """The state of a training run that is passed to callbacks.

    Args:
        clock: progress of the training.
        average: the averaged network as an estimator.
        device: device that it runs on.
    """

    clock: Clock
    average: Estimator
    device: torch.device


Callback = Callable[[TrainingState], "Mapping[str, Image.Image | float]"]
"""Called every `preview_every` steps and at the end; the pictures that it returns are saved and logged by name, the
numbers are logged."""


def train(
    network: nn.Module,
    parameterisation: Parameterisation,
    objective: Objective,
    source: BatchSource,
    config: TrainingConfig,
    out: Path,
    callbacks: Sequence[Callback] = (),
    facts: dict[str, Any] | None = None,
    strategy: Strategy | None = None,
) -> nn.Module:
    """Train a network and return its moving average.

    Args:
        network: the student, with its initial weights; parameters that require no gradient stay as they are.
        parameterisation: how its output is interpreted.
        objective: the training objective.
        source: the batches.
        config: the training settings.
        out: a directory for this run only: checkpoints, previews and TensorBoard events.
        callbacks: called for previews.
        facts: JSON values that identify the run, besides its settings, objective, networks and data; a checkpoint of
            another run is refused.
        strategy: how networks are distributed over processes; None for a copy in each.

    Returns:
        The average, which shares its frozen parameters with `network`.

    Raises:
        TrainingDiverged: a loss was no longer finite; the last good checkpoint stays.
        TrainingStopped: Ctrl-C or SIGTERM, after the step and with a checkpoint (in one process).
        CheckpointError: `out` holds a checkpoint of another run, or a damaged one.
    """
    run = _Run(network, parameterisation, objective, source, config, out, callbacks, facts or {}, strategy)
    with checkpoints.alone(out) if run.is_main else nullcontext():
        return run.train()


class _Run:
    def __init__(
        self,
        network: nn.Module,
        parameterisation: Parameterisation,
        objective: Objective,
        source: BatchSource,
        config: TrainingConfig,
        out: Path,
        callbacks: Sequence[Callback],
        facts: dict[str, Any],
        strategy: Strategy | None,
    ) -> None:
        self.strategy = strategy or Replicate()
        self.is_main = self.strategy.rank == 0
        self.objective, self.source, self.config, self.out = objective, source, config, out
        self.callbacks = callbacks
        self.facts = {
            **facts,
            "training": asdict(config),
            "processes": self.strategy.world,
            "objective": identity(objective),
            "parameterisation": identity(parameterisation),
            "network": identity(getattr(network, "config", network)),
            "frozen": fingerprint(network),
            "source": identity(source),
        }
        self.total = config.steps(self.strategy.world)
        self.images_per_step = config.batch * config.accumulate * self.strategy.world
        self.networks = Networks(network, parameterisation, objective, config, self.total, self.strategy)
        self.steps = Steps(objective.steps, self._learners())
        self.unchecked: list[tuple[int, Mapping[str, Loss], Mapping[str, Tensor]]] = []

    def _learners(self) -> dict[str, Learner]:
        config, steps = self.config, self.objective.steps
        learning = self.networks.learning
        if unknown := sorted(set(config.optimizers) - set(learning)):
            raise ValueError(f"optimizers names {', '.join(unknown)}, but the networks are {', '.join(learning)}")
        return {
            name: Learner(
                name,
                network,
                config.optimizers.get(name, config.optimizer),
                steps.get(name, steps[STUDENT]),
                config.clip,
                config.graphs,
            )
            for name, network in learning.items()
        }

    def train(self) -> nn.Module:
        config, strategy, total = self.config, self.strategy, self.total
        first = self._resume()
        reporter = Reporter(self.out, total, self.images_per_step, first, self.is_main)
        micro_steps = (first * config.accumulate, total * config.accumulate)
        batches = self.source.stream(*micro_steps, config.batch, strategy.rank, strategy.world)
        with reporter, StopRequests(strategy.world == 1) as stop:
            for step in range(first, total):
                losses, norms = self._step(self._clock(step), batches)
                self.unchecked.append((step, losses, norms))
                done = step + 1
                # reading values would synchronise a GPU; on a CPU they are available at once
                due = strategy.device.type == "cpu" or done == total or _due(done, config.log_every or 50)
                if due or _due(done, config.checkpoint_every):
                    self._check_finite(reporter)
                if _due(done, config.log_every) or done == total:
                    reporter.log(done, {name: learner.rate for name, learner in self.steps.learners.items()})
                if _due(done, config.checkpoint_every) or done == total:
                    self._checkpoint(done)
                if _due(done, config.preview_every) or done == total:
                    self._preview(self._clock(done), reporter)
                reporter.advance(done)
                if stop.asked is not None and done < total:
                    self._stop(done, stop.asked, reporter)
            if first == total and not reporter.has_pictures(total):  # stopped while it drew the last previews
                self._preview(self._clock(total), reporter)
        return self.networks.average

    def _stop(self, done: int, number: int, reporter: Reporter) -> None:
        """Write a checkpoint and raise TrainingStopped."""
        self._check_finite(reporter)
        if not _due(done, self.config.checkpoint_every):
            self._checkpoint(done)
        message = f"stopped after step {done} of {self.total}, with a checkpoint: the same command goes on from there"
        raise TrainingStopped(message, number)

    def _clock(self, step: int) -> Clock:
        return Clock(step, self.total, step * self.images_per_step)

    def _step(self, clock: Clock, batches: Iterator[Batch]) -> tuple[dict[str, Loss], dict[str, Tensor]]:
        """Take the optimiser steps that are due; return their losses and the norm of each network's gradient."""
        config, strategy, networks = self.config, self.strategy, self.networks
        due, parts = self.steps.due(clock), []
        for micro in range(config.accumulate):
            batch = self._move(next(batches))
            # a step's random numbers do not depend on how it is divided into processes and micro-batches
            part = micro * strategy.world + strategy.rank
            rng = StepRng(config.seed, clock.step, strategy.device, part, config.accumulate * strategy.world)
            last = micro + 1 == config.accumulate
            with nullcontext() if last else strategy.accumulating(networks.wrapped):
                losses = self.objective(networks.student, networks.target, batch, clock, rng)
                parts.append(by_step(losses, due))
                self.steps.backward(parts[-1], config.accumulate)
        norms = self.steps.take(due, clock, self._clip)
        if STUDENT in due:
            networks.follow(clock, clock.step // self.objective.steps[STUDENT].every + 1)
        return merged(parts), norms

    def _clip(self, name: str, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        if name != STUDENT:
            self.strategy.share_gradients(parameters)  # the student's wrapper does this for the student
        return self.strategy.clip(parameters, limit)

    def _move(self, batch: Batch) -> Batch:
        device = self.strategy.device
        data = batch.data.to(device, non_blocking=True)
        if self.config.channels_last and data.ndim == 4:
            data = data.contiguous(memory_format=torch.channels_last)
        return Batch(data, {k: v.to(device, non_blocking=True) for k, v in batch.cond.items()})

    def _check_finite(self, reporter: Reporter) -> None:
        """Raise at the first step with a loss or gradient that is not finite, before it reaches a checkpoint, and
        chart the noise levels where it began."""
        for step, losses, norms in self.unchecked:
            reporter.record(losses, norms)
            for name, loss in losses.items():
                value = loss.per_sample.mean().item()
                wrong = [norm for each in self.steps.of(name) if not math.isfinite(norm := norms[each].item())]
                if wrong or not math.isfinite(value):
                    reporter.chart(step + 1)
                    raise TrainingDiverged(self._divergence(step, name, loss, (wrong or [norms[name].item()])[0]))
        self.unchecked.clear()

    def _divergence(self, step: int, name: str, loss: Loss, norm: float) -> str:
        bad = ~torch.isfinite(loss.per_sample)
        ratios = torch.as_tensor(loss.at.ratio)[bad if bool(bad.any()) else slice(None)].tolist()
        last = checkpoints.found(self.out / "checkpoints")
        whose = "" if name == STUDENT else f" of '{name}'"
        return (
            f"the loss{whose} was {loss.per_sample.mean().item()} at step {step}, gradient norm {norm}, "
            f"noise levels σ/α {[round(r, 4) for r in ratios[:8]]}; "
            f"last good checkpoint: {last[-1].name if last else 'none yet'}"
        )

    def _checkpoint(self, done: int) -> None:
        if self.is_main:
            folder = self.out / "checkpoints"
            states = self.networks.states
            checkpoints.save(folder, done, states, self.steps.optimizers, self.facts, self.config.keep)
        self.strategy.wait()

    def _resume(self) -> int:
        """Resume from the last checkpoint, if there is one; returns the next step."""
        folder = self.out / "checkpoints"
        if self.is_main:
            for scratch in folder.glob(".writing-*"):
                shutil.rmtree(scratch)
        self.strategy.wait()
        states, optimizers = self.networks.states, self.steps.optimizers
        return checkpoints.resume(folder, states, optimizers, self.facts, _MAY_CHANGE, _MAY_GROW)

    def _preview(self, clock: Clock, reporter: Reporter) -> None:
        if not self.is_main or not (self.callbacks or self.config.preview_every):
            return
        reporter.say("drawing previews")
        state = TrainingState(clock, self.networks.averaged, self.strategy.device)
        start = time.perf_counter()
        with torch.no_grad():
            results = [callback(state) for callback in self.callbacks]  # saved once all are there: has_pictures
        reporter.chart(clock.step)
        for result in results:
            for name, value in result.items():
                if isinstance(value, Image.Image):
                    reporter.picture(name, value, clock.step)
                else:
                    reporter.scalar(name, value, clock.step)
        reporter.pause(time.perf_counter() - start)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


_MAY_CHANGE = {"checkpoint_every", "preview_every", "log_every", "keep", "workers", "graphs"}

_MAY_GROW = {"training.images"}
"""A run may be resumed with more images: what depends on the length of training (the falling learning rate, a
curriculum) then follows the longer run."""
