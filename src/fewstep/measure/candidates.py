"""Candidates, which evaluations and searches compare: a model and how it is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fewstep.core import grids
from fewstep.generation.model import Model
from fewstep.generation.planning import Plan
from fewstep.generation.request import Request
from fewstep.measure.subjects import Query


@dataclass(frozen=True)
class Candidate:
    """A model and how it is sampled.

    Args:
        role: "model", "teacher", or "denoise" (the teacher's single estimate from pure noise).
        model: the model to sample.
        steps, sampler: number of steps and name of the sampler.
        guidance: guidance scale; None for the model's own.
        levels: the σ/α to visit before clean, one per step; None for the model's own.
    """

    role: str
    model: Model
    steps: int
    sampler: str
    guidance: float | None = None
    levels: tuple[float, ...] | None = None

    def plan(self, queries: Sequence[Query], seeds: Sequence[int]) -> Plan:
        """The plan of one batch, in which each picture has its own prompt and seed.

        Raises:
            RequestError: the model cannot be sampled like this.
        """
        first = queries[0]
        choices: dict[str, Any] = {"steps": self.steps, "sampler": self.sampler, "guidance": self.guidance}
        plan = self.model.plan(Request(first.prompt, seed=0, label=first.label, **choices))
        levels = plan.sampling.levels if self.levels is None else grids.from_ratios(self.levels)
        labels = None if plan.conditions.labels is None else tuple(query.label for query in queries)
        return replace(
            plan,
            sampling=replace(plan.sampling, seeds=tuple(seeds), levels=levels),
            conditions=replace(plan.conditions, prompts=tuple(query.prompt for query in queries), labels=labels),
        )

    def draw(self, queries: Sequence[Query], seeds: Sequence[int], batch: int) -> tuple[Any, int]:
        """Pixels float32 [n, c, h, w], and the number of network evaluations per picture."""
        parts, evaluations = [], 0
        for i in range(0, len(queries), batch):
            pixels, evaluations = self.run(self.plan(queries[i : i + batch], seeds[i : i + batch]))
            parts.append(pixels)
        return np.concatenate(parts), evaluations

    def run(self, plan: Plan) -> tuple[Any, int]:
        """The pixels of one plan, and the number of network evaluations per picture."""
        *_, last = self.model.run(plan)
        return self.model.spec.codec.decode(last.jump.x), last.evaluations
