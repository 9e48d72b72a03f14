"""Small training runs for tests: a data source that is a function of a sample's number, an objective that uses
everything the loop keeps alive, and processes that die where a test says."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from fewstep.core.levels import from_ratio
from fewstep.core.parameterisations import Edm, Estimator, Parameterised, Targets
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import (
    Batch,
    ConsistencyTraining,
    ContinuousConsistency,
    DistributionMatching,
    Loss,
    Objective,
)
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import mean_loss
from fewstep.objectives.times import Rng
from fewstep.training import checkpoints, ema, loop
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.stopping import TrainingStopped
from oracles import Gaussian


@dataclass(frozen=True)
class Rows:
    """Sample number i is a function of i, so a global batch is the same however it is divided."""

    shape: tuple[int, ...]

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step in range(first, last):
            start = (step * world + rank) * batch
            rows = [np.random.default_rng(i).standard_normal(self.shape) for i in range(start, start + batch)]
            yield Batch(torch.from_numpy(0.5 * np.stack(rows)).float())


@dataclass(frozen=True)
class Signalled(Rows):
    """Rows that send signals to their own process while the batch of a step is made."""

    at: int = 3
    numbers: tuple[int, ...] = (signal.SIGINT,)

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step, rows in enumerate(super().stream(first, last, batch, rank, world), first):
            if step == self.at:
                for number in self.numbers:
                    signal.raise_signal(number)
            yield rows


@dataclass(frozen=True, eq=False)
class LearnedWeight(Objective):
    """Consistency training under a learned weight: e^{−u}·d + u, u an extra module with its own role."""

    inner: Objective
    u: nn.Linear
    targets: Targets = Targets.CLEAN

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"weight": self.u}

    def target_decay(self, clock: Clock) -> float | None:
        return self.inner.target_decay(clock)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        loss = self.inner(student, target, batch, clock, rng)
        u = self.u(torch.ones(1, 1, device=batch.data.device))[0, 0]
        return replace(loss, value=loss.value * torch.exp(-u) + u)


@dataclass(frozen=True)
class Breaks(Objective):
    """Diffusion until a step, where one sample's loss or every gradient is no longer finite."""

    at: int = field(compare=False)  # the fault is no part of what is trained
    gradient_only: bool = False
    targets: Targets = Targets.SAME

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        level = from_ratio(torch.tensor([0.5, 1.5, 2.5, 3.25], dtype=torch.float64)[:size])
        estimate = student(level.mix(batch.data, rng.normal(batch.data.shape)), level, level, batch.cond)
        per_sample = (estimate - batch.data).square().mean(dim=1)
        if clock.step == self.at and self.gradient_only:
            per_sample = per_sample + torch.sqrt(0 * per_sample)
        elif clock.step == self.at:
            per_sample = per_sample * torch.tensor([1.0, 1.0, 1.0, math.nan])[:size]
        return mean_loss(per_sample, level)


def everything(seed: int = 0) -> LearnedWeight:
    """A target network of its own, an extra module, dropout."""
    torch.manual_seed(seed)
    inner = ConsistencyTraining.ct(levels=lambda clock: 6, sigma_min=0.1, sigma_max=10.0, dropout=True)
    return LearnedWeight(inner, nn.Linear(1, 1))


def small_unet(seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    config = UNetConfig(
        channels=3, widths=(32, 32), depths=(1, 1), attention=(False, True), embedding=32, dropout=0.2
    )
    return UNet(config)


def small_mlp(seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(MLPConfig(width=32, depth=2, embedding=32, dropout=0.2))


CONFIG = TrainingConfig(
    images=64,
    batch=4,
    optimizer=OptimizerConfig(kind="muon", warmup=3, decay_from=0.5),
    ema=EmaConfig(sigma_rel=0.1),
    checkpoint_every=4,
    log_every=8,
    keep=2,
)


def run_unet(out: Path) -> None:
    """Sixteen steps of a U-Net with everything there is to resume; the result goes to out/result.safetensors."""
    average = loop.train(small_unet(), Edm(), everything(), Rows((3, 4, 4)), CONFIG, out, facts={"run": "unet"})
    save_file({name: value.contiguous() for name, value in average.state_dict().items()}, out / "result.safetensors")


def run_mlp(out: Path, config: TrainingConfig, seed: int = 0) -> None:
    """A perceptron with everything; only the first process writes."""
    average = loop.train(small_mlp(seed), Edm(), everything(seed), Rows((2,)), config, out)
    if int(os.environ.get("RANK", "0")) == 0:
        save_file(dict(average.state_dict()), out / "result.safetensors")


INTERRUPTED = 1
"""The exit code of run_signalled for a run that was interrupted at once."""


def run_signalled(out: Path, source: Signalled) -> None:
    """Ten steps of a perceptron that is sent signals, in a process of its own: a test's process must survive them.

    It exits with the code of a run that was stopped, which says why in out/said.
    """
    before = [signal.getsignal(number) for number in source.numbers]
    config = replace(CONFIG, images=40, checkpoint_every=100)
    try:
        average = loop.train(small_mlp(), Edm(), everything(), source, config, out)
    except TrainingStopped as stopped:
        (out / "said").write_text(str(stopped), encoding="utf-8")
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        assert [signal.getsignal(number) for number in source.numbers] == before
    save_file(dict(average.state_dict()), out / "result.safetensors")


def run_differentiating(out: Path, config: TrainingConfig, rank: int = 0) -> None:
    """A perceptron that learns by the derivative of itself, with dropout and a learned weight."""
    torch.manual_seed(rank)
    objective = ContinuousConsistency(warmup=4, dropout=True)
    average = loop.train(small_mlp(rank), Edm(), objective, Rows((2,)), config, out)
    if rank == 0:
        save_file(dict(average.state_dict()), out / "result.safetensors")


def run_matching(out: Path, config: TrainingConfig, rank: int = 0) -> None:
    """A perceptron that learns to match a Gaussian, and another one beside it that learns its score."""
    torch.manual_seed(rank)
    fake = Parameterised(small_mlp(rank + 5), Edm())
    objective = DistributionMatching(Gaussian(0.2, 0.6, targets=Targets.SAME), fake, (80.0, 2.0), every=3)
    average = loop.train(small_mlp(rank), Edm(), objective, Rows((2,)), config, out)
    if rank == 0:
        save_file(dict(average.state_dict()), out / "result.safetensors")


@dataclass(frozen=True)
class Death:
    """Where a process is to kill itself, by SIGKILL, at the `count`-th time it comes by."""

    where: Callable[[int], None]
    count: int = 1


def in_a_step(count: int) -> None:
    """After the optimiser's step, before the average's."""
    _before(ema, "update", count, lambda *args: None)


def writing_a_file(count: int) -> None:
    """Half of a checkpoint's file is on the disk."""
    _before(checkpoints, "save_file", count, lambda tensors, file: Path(file).write_bytes(b"\x40" * 50))


def before_the_rename(count: int) -> None:
    """A checkpoint is written whole under its temporary name."""
    _before(checkpoints, "_flush", count, lambda path: None)


def removing_an_old_one(count: int) -> None:
    """Part of an old checkpoint is gone."""
    real, came_by = shutil.rmtree, [0]

    def rmtree(path: Any, *args: Any, **options: Any) -> None:
        if Path(path).is_dir():
            came_by[0] += 1
            if came_by[0] == count:
                (Path(path) / "state.json").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        real(path, *args, **options)

    checkpoints.shutil.rmtree = rmtree  # type: ignore[assignment]


def _before(module: Any, name: str, count: int, last_words: Callable[..., None]) -> None:
    real, came_by = getattr(module, name), [0]

    def dying(*args: Any, **options: Any) -> Any:
        came_by[0] += 1
        if came_by[0] == count:
            last_words(*args, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(module, name, dying)


@dataclass(frozen=True)
class Processes:
    """Starts functions in fresh processes, forked from a server that has imported torch and nothing else has
    happened in: as good as a new interpreter, without its start."""

    context: Any = field(default_factory=lambda: multiprocessing.get_context("forkserver"))

    def __post_init__(self) -> None:
        self.context.set_forkserver_preload(["training_runs"])

    def run(self, function: Callable[..., None], *args: Any, death: Death | None = None) -> int:
        """Run to the end; return the exit code, −9 for one that was killed."""
        process = self.context.Process(target=_child, args=(function, args, death, {}))
        process.start()
        process.join()
        return int(process.exitcode)

    def run_together(self, world: int, function: Callable[..., None], *args: Any) -> list[int]:
        """Run `function(*args, rank)` in `world` processes that share a batch, as torchrun starts them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes = []
        for rank in range(world):
            environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)}
            process = self.context.Process(target=_child, args=(function, (*args, rank), None, environment))
            process.start()
            processes.append(process)
        for process in processes:
            process.join()
        return [int(process.exitcode) for process in processes]


def _child(
    function: Callable[..., None], args: tuple[Any, ...], death: Death | None, environment: Mapping[str, str]
) -> None:
    os.environ.update({"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment})
    torch.set_num_threads(1)
    if death is not None:
        death.where(death.count)
    function(*args)


def curve(out: Path, name: str) -> list[float]:
    """What a run reported for TensorBoard."""
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars(name)]


def weights(network: nn.Module) -> Tensor:
    """All parameters, flat."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
