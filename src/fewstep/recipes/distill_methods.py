"""The methods of `fewstep distill`: which jumps each teaches, to a LoRA or to the whole network, by which objective.

A method joins by one entry in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fewstep.core.arrays import Condition
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives import (
    ConsistencyDistillation,
    ContinuousConsistency,
    EasyConsistency,
    FlowMapDistillation,
    LearnedGuidance,
    MeanFlow,
    Objective,
)
from fewstep.objectives.derivatives import Derivative
from fewstep.objectives.distances import MeanPseudoHuber
from fewstep.objectives.times import Density, TwoTimes

Method = Literal["lcm-lora", "lcm", "flow-map-lora", "flow-map", "mean-flow", "scm", "easy"]

SIGMA_DATA = 1.0
"""The deviation of latents that a VAE's settings have scaled."""

DERIVATIVE = Derivative("differences")
"""Attention in PyTorch has no forward-mode derivative."""

APART = 0.75
"""The share of a flow map's pairs with two times; the others keep it at the guided teacher."""

WARMUP = 0.2
"""The share of the training in which the derivative's part in the target rises to all of it."""


@dataclass(frozen=True)
class Teaching:
    """What an objective is built from.

    Args:
        teacher: the network without guidance.
        guided: the teacher at one guidance scale.
        null: the condition of the unguided estimate.
        scales: the range of the scale that a student is told.
        grid: σ/α of the teacher's trajectory in rising order.
        density: of the noise levels that the teacher was trained at.
        steps: of the training.
    """

    teacher: Estimator
    guided: Estimator
    null: Condition
    scales: tuple[float, float]
    grid: tuple[float, ...]
    density: Density
    steps: int

    @property
    def pairs(self) -> TwoTimes:
        """Two times of a flow map's jump."""
        return TwoTimes(self.density, APART)

    @property
    def warmup(self) -> int:
        return int(WARMUP * self.steps)


@dataclass(frozen=True)
class MethodKind:
    """What is to be known about a method.

    Args:
        build: the objective.
        targets: the jumps that it teaches.
        is_lora: whether a LoRA learns, beside the frozen network; else the whole network.
        told: whether the student is told the guidance scale.
        guided: whether the teacher's guidance is learnt; without it there is no teacher.
        evaluations: forward passes that one image costs, a pass with its gradient counted as three.
        lr: learning rate.
    """

    build: Callable[[Teaching], Objective]
    targets: Targets
    is_lora: bool = False
    told: bool = False
    guided: bool = True
    evaluations: int = 8
    lr: float = 8e-6


def _consistency(teaching: Teaching) -> Objective:
    """Latent consistency distillation at one guidance scale (2311.05556)."""
    return _latent(teaching, teaching.guided, None, None)


def _told_consistency(teaching: Teaching) -> Objective:
    """The same with the scale as an input, and a moving average as target (2310.04378)."""
    return _latent(teaching, teaching.teacher, LearnedGuidance(*teaching.scales, teaching.null), 0.95)


def _latent(
    teaching: Teaching, teacher: Estimator, guidance: LearnedGuidance | None, decay: float | None
) -> Objective:
    return ConsistencyDistillation(
        teacher,
        solver="euler",
        distance=MeanPseudoHuber(),
        weight=None,
        guidance=guidance,
        decay=decay,
        jitter=False,
        grid=teaching.grid,
    )


def _flow_map(teaching: Teaching) -> Objective:
    return FlowMapDistillation(teaching.guided, times=teaching.pairs, warmup=teaching.warmup, derivative=DERIVATIVE)


def _mean_flow(teaching: Teaching) -> Objective:
    return MeanFlow(teaching.pairs, teaching.guided, derivative=DERIVATIVE)


def _continuous(teaching: Teaching) -> Objective:
    """sCD; its published weight needs a long training (`ContinuousConsistencySettings`)."""
    return ContinuousConsistency(
        teaching.guided,
        density=teaching.density,
        warmup=teaching.warmup,
        weight=None,
        sigma_data=SIGMA_DATA,
        derivative=DERIVATIVE,
    )


def _easy(teaching: Teaching) -> Objective:
    return EasyConsistency(teaching.density, sigma_data=SIGMA_DATA, dropout=False)


METHODS: Mapping[Method, MethodKind] = {
    "lcm-lora": MethodKind(_consistency, Targets.CLEAN, is_lora=True, evaluations=6, lr=1e-4),
    "lcm": MethodKind(_told_consistency, Targets.CLEAN, told=True, evaluations=6),
    "flow-map-lora": MethodKind(_flow_map, Targets.ANY, is_lora=True, lr=1e-4),
    "flow-map": MethodKind(_flow_map, Targets.ANY),
    "mean-flow": MethodKind(_mean_flow, Targets.ANY),
    "scm": MethodKind(_continuous, Targets.CLEAN),
    "easy": MethodKind(_easy, Targets.CLEAN, guided=False, evaluations=4),
}
"""The methods by name, the default first."""
