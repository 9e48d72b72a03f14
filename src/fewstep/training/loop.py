"""One training loop for every objective, on Hugging Face Accelerate: a CPU, one GPU or several processes.

Batches and random numbers are functions of (seed, step, rank) and the rest is in the checkpoint, so the same
command run again goes on, bit for bit.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast
from PIL import Image
from torch import Tensor, nn

from fewstep.core.checks import check_choice
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Parameterisation, Parameterised
from fewstep.objectives.curricula import Clock, cosine_decay, linear_warmup
from fewstep.objectives.objective import Batch, Loss, Objective
from fewstep.training import checkpoints, ema, optimizers
from fewstep.training.batches import BatchSource
from fewstep.training.calling import AtPrecision, Precision
from fewstep.training.ema import EmaConfig
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.randomness import StepRng
from fewstep.training.reporting import Reporter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how.

    Args:
        images: training images in all.
        batch: images a micro-batch and process.
        accumulate: micro-batches a step.
        precision: of the network's arithmetic; weights, losses and averages are float32.
        clip: the gradient norm allowed; inf for any.
        seed: of everything random.
        optimizer, ema: see there.
        checkpoint_every, preview_every, log_every: in optimiser steps; 0 for never.
        keep: checkpoints that stay.
        channels_last: memory layout of images; faster on CPUs and GPUs alike.
        workers: processes that make batches, for a GPU that waits for them; 0 for one thread.
        graphs: whether a GPU replays the network as a CUDA graph instead of being given kernel by kernel: several
            times as fast for small networks. Not for objectives with forward-mode derivatives.
    """

    images: int
    batch: int = 64
    accumulate: int = 1
    precision: Precision = "float32"
    clip: float = 1.0
    seed: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    checkpoint_every: int = 500
    preview_every: int = 0
    log_every: int = 50
    keep: int = 3
    channels_last: bool = True
    workers: int = 0
    graphs: bool = False

    def __post_init__(self) -> None:
        for name in ("images", "batch", "accumulate", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.graphs and self.accumulate > 1:
            raise ValueError("graphs and accumulate exclude each other: a graph writes each gradient over the last")
        check_choice("precision", self.precision, "bf16", "float32")
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0 (inf for no clipping), got {self.clip}")

    def steps(self, world: int) -> int:
        """Optimiser steps in all."""
        return max(1, math.ceil(self.images / (self.batch * self.accumulate * world)))


class TrainingDiverged(RuntimeError):
    """A loss or gradient was no longer finite."""


@dataclass(frozen=True)
class TrainingState:
    """What a callback sees: the averaged network as an estimator, and where training stands."""

    clock: Clock
    average: Estimator
    device: torch.device


Callback = Callable[[TrainingState], "Mapping[str, Image.Image | float]"]
"""Called every `preview_every` steps and at the end; pictures that it returns are saved and logged by name, numbers
logged."""


def accelerator() -> Accelerator:
    """Where to train: what `accelerate launch` set up, else the GPU, else the CPU.

    Precision and accumulation are the loop's own, whatever `accelerate config` says of them. Apple's GPUs have no
    float64, which levels are kept in: there the CPU trains.
    """
    apple = torch.backends.mps.is_available()
    if apple:
        log.info("training on the CPU: Apple's GPUs have no float64")
    once = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=apple, mixed_precision="no", gradient_accumulation_plugin=once)


def train(
    network: nn.Module,
    parameterisation: Parameterisation,
    objective: Objective,
    source: BatchSource,
    config: TrainingConfig,
    out: Path,
    callbacks: Sequence[Callback] = (),
    facts: dict[str, Any] | None = None,
) -> nn.Module:
    """Train a network and return its moving average.

    Args:
        network: the student, with the weights to start from.
        parameterisation: how its output is read.
        objective: what it learns.
        source: the batches.
        config: how long and how.
        out: a directory of this run alone: checkpoints, previews, TensorBoard's events.
        callbacks: called for previews.
        facts: JSON values that identify the run, beside its settings, objective, network and data; a checkpoint of
            another run is refused.

    Raises:
        TrainingDiverged: a loss was no longer finite; the last good checkpoint stays.
        CheckpointError: `out` holds a checkpoint of another run, or a damaged one.
    """
    run = _Run(network, parameterisation, objective, source, config, out, callbacks, facts or {})
    with checkpoints.alone(out) if run.accelerator.is_main_process else nullcontext():
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
    ) -> None:
        self.accelerator = accelerator()
        self.device = self.accelerator.device
        self.objective, self.source, self.config, self.out = objective, source, config, out
        self.callbacks, self.parameterisation = callbacks, parameterisation
        self.facts = {
            **facts,
            "training": asdict(config),
            "processes": self.accelerator.num_processes,
            "objective": identity(objective),
            "parameterisation": identity(parameterisation),
            "network": identity(getattr(network, "config", network)),
            "source": identity(source),
        }
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.network: nn.Module = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.wrapped = self.accelerator.prepare(self.network)  # gives every process the first one's weights
        self.average: nn.Module = copy.deepcopy(self.network).requires_grad_(False)
        clock = Clock(0, config.steps(self.accelerator.num_processes))
        follows = objective.target_decay(clock) is not None
        self.follower = copy.deepcopy(self.average) if follows else None
        self.roles = {role: module.to(self.device) for role, module in objective.modules.items()}
        for module in self.roles.values():
            for values in module.state_dict().values():
                values.copy_(broadcast(values))
        self.optimizers = {
            role: optimizers.build(module, config.optimizer, config.graphs)
            for role, module in {"student": self.network, **self.roles}.items()
        }
        exact = objective.in_float32 if config.precision != "float32" else ()
        if exact:
            log.info("%s in float32: the objective has no use for %s there", " and ".join(exact), config.precision)
        self.student = self._estimator(self.wrapped, "float32" if "student" in exact else None, config.graphs)
        # nothing learns through the target, so it goes around the wrapper that shares gradients
        follower = self.network if self.follower is None else self.follower
        self.target = self._estimator(follower, "float32" if "target" in exact else None, config.graphs)
        self.pending: list[tuple[int, Tensor, Tensor, Loss]] = []

    def _estimator(self, network: nn.Module, precision: Precision | None = None, graphs: bool = False) -> Estimator:
        called = AtPrecision(network, self.device, precision or self.config.precision, graphs)
        return Parameterised(called, self.parameterisation, self.objective.targets)

    @property
    def _modules(self) -> dict[str, nn.Module]:
        modules = {"student": self.network, "average": self.average, **self.roles}
        return modules if self.follower is None else {**modules, "target": self.follower}

    @property
    def _all_optimizers(self) -> list[torch.optim.Optimizer]:
        return [optimizer for role in self.optimizers.values() for optimizer in role]

    def train(self) -> nn.Module:
        config, world = self.config, self.accelerator.num_processes
        total, per_step = config.steps(world), config.batch * config.accumulate * world
        first = self._resume()
        reporter = Reporter(self.out, total, per_step, first, self.accelerator.is_main_process)
        batches = self.source.stream(
            first * config.accumulate,
            total * config.accumulate,
            config.batch,
            self.accelerator.process_index,
            world,
        )
        with reporter:
            for step in range(first, total):
                clock = Clock(step, total, step * per_step)
                loss, norm = self._step(clock, batches)
                self.pending.append((step, loss.per_sample.mean(), norm, loss))
                done = step + 1
                # a GPU would wait at every look; a CPU has its numbers at once
                due = self.device.type == "cpu" or done == total or _due(done, config.log_every or 50)
                if due or _due(done, config.checkpoint_every):
                    self._check_finite(reporter)
                if _due(done, config.log_every) or done == total:
                    reporter.log(done, norm, self.optimizers["student"][0].param_groups[0]["lr"])
                if _due(done, config.checkpoint_every) or done == total:
                    self._checkpoint(done)
                if _due(done, config.preview_every) or done == total:
                    self._preview(Clock(done, total, done * per_step), reporter)
        return self.average

    def _step(self, clock: Clock, batches: Iterator[Batch]) -> tuple[Loss, Tensor]:
        config, accelerator = self.config, self.accelerator
        self._set_rates(clock)
        losses = []
        for micro in range(config.accumulate):
            batch = self._move(next(batches))
            # a step's random numbers are the same however processes and micro-batches divide it
            part = micro * accelerator.num_processes + accelerator.process_index
            rng = StepRng(config.seed, clock.step, self.device, part, config.accumulate * accelerator.num_processes)
            last = micro + 1 == config.accumulate
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                loss = self.objective(self.student, self.target, batch, clock, rng)
                accelerator.backward(torch.stack(list(loss.terms.values())).sum() / config.accumulate)
            losses.append(loss)
        trained = list(self.network.parameters())
        for module in self.roles.values():
            trained += self._averaged_over_processes(module)
        norm = nn.utils.clip_grad_norm_(trained, config.clip)
        for optimizer in self._all_optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        ema.update(self.average, self.network, config.ema.at(clock.step + 1))
        if self.follower is not None:
            decay = self.objective.target_decay(clock)
            ema.update(self.follower, self.network, 0.0 if decay is None else decay)
        return _merged(losses), norm

    def _averaged_over_processes(self, module: nn.Module) -> list[nn.Parameter]:
        """A role's parameters, their gradients averaged: only the student is wrapped to do so by itself."""
        parameters = list(module.parameters())
        if self.accelerator.num_processes > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        return parameters

    def _set_rates(self, clock: Clock) -> None:
        settings = self.config.optimizer
        factor = linear_warmup(clock, settings.warmup) * cosine_decay(clock, settings.decay_from)
        for optimizer in self._all_optimizers:
            base = settings.muon_lr if isinstance(optimizer, optimizers.Muon) else settings.lr
            for group in optimizer.param_groups:
                group["lr"] = base * factor

    def _move(self, batch: Batch) -> Batch:
        data = batch.data.to(self.device, non_blocking=True)
        if self.config.channels_last and data.ndim == 4:
            data = data.contiguous(memory_format=torch.channels_last)
        return Batch(data, {k: v.to(self.device, non_blocking=True) for k, v in batch.cond.items()})

    def _check_finite(self, reporter: Reporter) -> None:
        """Raise at the first step whose loss or gradient was not finite, before it reaches a checkpoint, and draw at
        which noise levels it began."""
        for step, value, norm, loss in self.pending:
            reporter.saw(loss)
            if not (math.isfinite(value.item()) and math.isfinite(norm.item())):
                bad = ~torch.isfinite(loss.per_sample)
                ratios = loss.at.ratio[bad if bool(bad.any()) else slice(None)].tolist()
                last = checkpoints.found(self.out / "checkpoints")
                reporter.chart(step + 1)
                raise TrainingDiverged(
                    f"the loss was {value.item()} at step {step}, gradient norm {norm.item()}, "
                    f"noise levels σ/α {[round(r, 4) for r in ratios[:8]]}; "
                    f"last good checkpoint: {last[-1].name if last else 'none yet'}"
                )
        self.pending.clear()

    def _checkpoint(self, done: int) -> None:
        if self.accelerator.is_main_process:
            folder = self.out / "checkpoints"
            checkpoints.save(folder, done, self._modules, self._all_optimizers, self.facts, self.config.keep)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        """Go on from the last checkpoint, if there is one: the step to do next."""
        folder = self.out / "checkpoints"
        if self.accelerator.is_main_process:
            for scratch in folder.glob(".writing-*"):
                shutil.rmtree(scratch)
        self.accelerator.wait_for_everyone()
        return checkpoints.resume(folder, self._modules, self._all_optimizers, self.facts, _MAY_CHANGE)

    def _preview(self, clock: Clock, reporter: Reporter) -> None:
        if not self.accelerator.is_main_process or not (self.callbacks or self.config.preview_every):
            return
        state = TrainingState(clock, self._estimator(self.average), self.device)
        start = time.perf_counter()
        reporter.chart(clock.step)
        with torch.no_grad():
            for callback in self.callbacks:
                for name, seen in callback(state).items():
                    tell = reporter.picture if isinstance(seen, Image.Image) else reporter.scalar
                    tell(name, seen, clock.step)  # type: ignore[arg-type]
        reporter.pause(time.perf_counter() - start)


def _merged(losses: Sequence[Loss]) -> Loss:
    """A step's loss from its micro-batches', without their graphs: for reports."""
    at = Level(torch.cat([loss.at.alpha for loss in losses]), torch.cat([loss.at.sigma for loss in losses]))
    scalars = {name: torch.stack([loss.scalars[name] for loss in losses]).mean() for name in losses[0].scalars}
    return Loss({}, torch.cat([loss.per_sample for loss in losses]), at, scalars)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def identity(part: Any) -> Any:
    """What tells one part of a run from another, as JSON values.

    Dataclasses by name and settings, functions with their fixed arguments, networks by their name alone, data sets by
    name, size and shape.
    """
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    if isinstance(part, (tuple, list)):
        return [identity(value) for value in part]
    if isinstance(part, Mapping):
        return {str(key): identity(value) for key, value in part.items()}
    if isinstance(part, Enum):
        return part.name
    if isinstance(part, functools.partial):
        return {"kind": identity(part.func), "args": identity(part.args), "keywords": identity(part.keywords)}
    if is_dataclass(part) and not isinstance(part, (nn.Module, type)):
        settings = {f.name: identity(getattr(part, f.name)) for f in fields(part) if f.compare}
        return {"kind": type(part).__qualname__, **settings}
    kind = getattr(part, "__qualname__", type(part).__qualname__)
    if hasattr(part, "example") and hasattr(part, "shape"):
        return {"kind": kind, "name": part.name, "examples": len(part), "shape": identity(part.shape)}
    return kind


_MAY_CHANGE = {"checkpoint_every", "preview_every", "log_every", "keep", "workers", "graphs"}
