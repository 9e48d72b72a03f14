"""The interface of objectives: their inputs and outputs. The training loop owns everything that outlives a step:
weights, moving averages, optimisers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from fewstep.core.arrays import divide, namespace
from fewstep.core.checks import check_above_0, check_at_least
from fewstep.core.levels import VE, Level, Path, from_ratio, place
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.times import Rng

Role = Literal["student", "target"]

DERIVED: tuple[Role, ...] = ("target",)
"""The networks that run in float32 if the target is differentiated."""

COMPARED: tuple[Role, ...] = ("student", "target")
"""The same if the loss is a difference of two estimates over a small gap, which bfloat16 would round away."""


@dataclass(frozen=True)
class Batch:
    """Training data of one step: `data` [b, ...] and the conditions of each sample."""

    data: Tensor
    cond: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """When and how one network of an objective takes an optimiser step.

    Args:
        every: it steps at the run's steps 0, `every`, 2·`every` …
        rate: its learning rate, in units of the run's.
        clip: the largest norm of its gradient; None for the run's.
    """

    every: int = 1
    rate: float = 1.0
    clip: float | None = None

    def __post_init__(self) -> None:
        check_at_least(1, every=self.every)
        check_above_0(rate=self.rate)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0 (inf for no clipping), got {self.clip}")

    def is_due(self, clock: Clock) -> bool:
        """Whether the network steps at this step of the run: a function of its number, so that a run resumes."""
        return clock.step % self.every == 0


@dataclass(frozen=True)
class Loss:
    """What a network minimises in one step.

    Args:
        value: the scalar that is differentiated.
        per_sample: the weighted loss [b] of each sample, detached.
        at: the level [b] of each sample.
        scalars: other values to plot.
    """

    value: Tensor
    per_sample: Tensor
    at: Level
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """A training objective: a function of the student, the data, the clock and random numbers.

    `targets` says which jumps the trained network can make. `modules` are auxiliary networks that it trains, by name,
    and `steps` says when and how each network is updated. `in_float32` says which networks run in float32 regardless
    of the training's precision.
    """

    targets: Targets

    @property
    def in_float32(self) -> Collection[Role]:
        return ()

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {}

    @property
    def steps(self) -> Mapping[str, Step]:
        """The steps of the networks that have their own loss, by name; other modules are trained by the student's
        loss, in the student's step."""
        return {"student": Step()}

    def target_decay(self, clock: Clock) -> float | None:
        """The decay of the moving average that serves as target network; None if the target is the student itself."""
        return None

    def __call__(
        self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng
    ) -> Loss | Mapping[str, Loss]:
        """Return the loss of each of `steps` that is due, by name; a loss by itself is the student's.

        A loss updates only the network whose step it is.

        Args:
            student: the network being trained, for losses that it learns from.
            target: the target network: the moving average if `target_decay` gives one, else the student. It is used
                for everything else, without gradients: derivatives, and samples if the student has no step.
            batch: data and conditions.
            clock: progress of the training.
            rng: the step's random numbers, on the data's device.
        """
        ...


def mean_loss(per_sample: Tensor, at: Level, **scalars: Tensor) -> Loss:
    """The mean over samples."""
    return Loss(per_sample.mean(), per_sample.detach(), at, scalars)


def inner_network(estimator: Any) -> nn.Module:
    """The network inside an estimator.

    Raises:
        ValueError: there is none.
    """
    part = estimator
    while not isinstance(part, nn.Module):
        if not hasattr(part, "network"):
            raise ValueError(f"expected an estimator of a network, got {estimator!r}")
        part = part.network
    return part


def noised(data: Tensor, ratio: Tensor, rng: Rng, path: Path | None = None) -> tuple[Tensor, Level, Tensor]:
    """Add noise to data up to σ/α = ratio [b], on the scale of `path` (VE if None).

    Returns:
        x, its level [b] in float64, and the noise.
    """
    at = on_path(from_ratio(ratio.double()), path)
    noise = rng.normal(data.shape).to(data.dtype)
    return at.mix(data, noise), at, noise


def on_path(level: Level, path: Path | None) -> Level:
    """The level with the scale of `path`, its σ/α unchanged; VE's own scale if None.

    A path's bounds do not apply: beyond them σ (at the noisy end) or α (at the clean end) stays that of the end.
    So a loss is the same on every path, and two levels that differ never meet at a bound.
    """
    if path is None or isinstance(path, VE):
        return level
    xp = namespace(level.sigma)
    placed, low, high = place(level, path), path.level(path.cleanest), path.level(path.noisiest)
    beyond = level.sigma * float(high.alpha) > float(high.sigma) * level.alpha
    below = level.sigma * float(low.alpha) < float(low.sigma) * level.alpha
    return Level(
        xp.where(beyond, placed.sigma * divide(level.alpha, level.sigma), placed.alpha),
        xp.where(below, placed.alpha * divide(level.sigma, level.alpha), placed.sigma),
    )


def check_jumps(name: str, estimator: Estimator | None, needed: Targets) -> None:
    """Raise ValueError unless a frozen estimator can make the jumps that are needed."""
    have = getattr(estimator, "targets", None)
    if have is not needed and have is not Targets.ANY:
        kind = "a denoiser" if needed is Targets.SAME else "a consistency function"
        got = f"one whose targets are {have.value!r}" if have else "None" if estimator is None else type(estimator)
        raise ValueError(f"{name} must be {kind} or a flow map, got {got}")


def with_dropout(cond: Mapping[str, Tensor], rng: Rng, size: int) -> Mapping[str, Tensor]:
    """The condition with one dropout key per sample: every call with it drops the same activations."""
    keys = (rng.uniform((size,)) * 2**24).to(torch.int64)
    return {**cond, "dropout": keys}
