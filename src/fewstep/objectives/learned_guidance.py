"""Guidance that a student learns: the scale is drawn for each sample and is part of the student's condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.core.arrays import ArrayT, Condition, like
from fewstep.core.checks import check_share
from fewstep.core.guidance import Guided
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, EstimatorWrapper
from fewstep.objectives.times import Rng


@dataclass(frozen=True)
class LearnedGuidance:
    """Classifier-free guidance distilled into a student (2210.03142 §3, 2310.04378 §4.2).

    Args:
        low, high: range of the uniformly drawn scale; equal for a fixed scale.
        null: the condition of the unguided estimate, arrays [1, …].
        unconditional: the share of samples that are trained without condition, at scale 1.
    """

    low: float
    high: float
    null: Condition
    unconditional: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high < float("inf"):
            raise ValueError(f"guidance must have scales 0 ≤ low ≤ high, got {self.low} and {self.high}")
        if not self.null:
            raise ValueError("guidance needs `null`, the condition of the unguided estimate")
        check_share("unconditional", self.unconditional)

    def draw(self, cond: Mapping[str, Tensor], rng: Rng, size: int) -> Mapping[str, Tensor]:
        """The student's condition, including the `guidance` scales [size].

        Raises:
            ValueError: the batch lacks a condition that `null` replaces.
        """
        if missing := ", ".join(name for name in self.null if name not in cond):
            raise ValueError(f"guidance needs the conditions that `null` names, but the batch lacks {missing}")
        scale = self.low + (self.high - self.low) * rng.uniform((size,))
        if not self.unconditional:
            return {**cond, "guidance": scale}
        kept = rng.uniform((size,)) >= self.unconditional
        none = self.without(cond)
        mixed = {name: torch.where(_column(kept, values), values, none[name]) for name, values in cond.items()}
        return {**mixed, "guidance": torch.where(kept, scale, torch.ones_like(scale))}

    def without(self, cond: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The null condition for each sample; conditions that null does not name are kept, a scale is set to 1."""
        null = {name: like(values, cond[name]).expand_as(cond[name]) for name, values in self.null.items()}
        scale = {"guidance": torch.ones_like(cond["guidance"])} if "guidance" in cond else {}
        return {**cond, **null, **scale}


def drawn(guidance: LearnedGuidance | None, cond: Mapping[str, Tensor], rng: Rng, size: int) -> Mapping[str, Tensor]:
    """The student's condition: `cond`, with the drawn guidance scale if there is guidance."""
    return cond if guidance is None else guidance.draw(cond, rng, size)


def taught(guidance: LearnedGuidance | None, teacher: Estimator, cond: Mapping[str, Tensor]) -> Estimator:
    """The guided teacher of a student with this condition, called with the same condition."""
    return teacher if guidance is None else _Guiding(teacher, guidance.null, cond["guidance"])


@dataclass(frozen=True)
class _Guiding(EstimatorWrapper):
    """A guided teacher that does not have the scale as an input."""

    null: Condition
    scale: Tensor

    def __call__(self, x: ArrayT, at: Level, to: Level, cond: Condition) -> ArrayT:
        own = {name: values for name, values in cond.items() if name != "guidance"}
        null = {name: like(values, x) for name, values in self.null.items()}
        return Guided(self.estimator, null, self.scale)(x, at, to, own)


def _column(values: Tensor, reference: Tensor) -> Tensor:
    return values.reshape((-1,) + (1,) * (reference.ndim - 1))
