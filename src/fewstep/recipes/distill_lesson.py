"""What a pipeline's student is, what it is taught, and by which teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fewstep.core.guidance import Guided
from fewstep.core.levels import Linear
from fewstep.core.parameterisations import Lcm, Parameterisation, Parameterised, Targets
from fewstep.data.encoded import Size
from fewstep.interop.diffusers.networks import DiffusersNetwork, family_of
from fewstep.interop.diffusers.pipeline import Pipeline
from fewstep.interop.diffusers.target_time import add_target_time
from fewstep.interop.lora import add_lora
from fewstep.objectives import Objective
from fewstep.objectives.times import UniformTime
from fewstep.recipes.distill_methods import Teaching
from fewstep.recipes.distill_networks import Unadapted, trainable_copy, with_embedded_guidance
from fewstep.training.calling import AtPrecision
from fewstep.training.strategy import accelerator

if TYPE_CHECKING:
    from fewstep.recipes.distill import DistillRecipe

NOISIEST = 1000.0
"""The largest σ/α that a flow's student is trained at, in place of pure noise, where σ/α is infinite."""

SCALING = 10.0
"""The factor of timesteps in the boundary condition of the released models."""


@dataclass(frozen=True)
class Lesson:
    """The networks and the objective of a distillation.

    Args:
        recipe: its settings.
        pipeline: the teacher's.
        device: where both networks are.
    """

    recipe: DistillRecipe
    pipeline: Pipeline
    device: torch.device

    def networks(self) -> tuple[DiffusersNetwork, nn.Module]:
        """The student and the network of the teacher."""
        recipe, module = self.recipe, self.pipeline.network
        torch.manual_seed(recipe.training.seed)
        kind = recipe.kind
        if kind.is_lora:
            add_lora(module, recipe.rank, recipe.alpha, recipe.targets or None)
            student = DiffusersNetwork(module)
        else:
            student = DiffusersNetwork(with_embedded_guidance(module) if kind.told else trainable_copy(module))
        if kind.targets is Targets.ANY:
            add_target_time(student.network)
        return student, Unadapted(student) if kind.is_lora else DiffusersNetwork(module)

    @cached_property
    def boundary(self) -> Parameterisation:
        """The student's parameterisation: the teacher's, and on a VP table a boundary if it jumps to clean alone."""
        if self._is_flow or self.recipe.kind.targets is Targets.ANY:
            return self._plain
        return Lcm(self._plain, timestep_scaling=SCALING)

    @property
    def _plain(self) -> Parameterisation:
        """The teacher's parameterisation."""
        return self.pipeline.estimator(clip=False).parameterisation

    @property
    def _is_flow(self) -> bool:
        return isinstance(self.pipeline.timetable.path, Linear)

    @property
    def _embeds_guidance(self) -> bool:
        """Whether the teacher is told its guidance scale (FLUX.1-dev), so that one evaluation is guided."""
        return "guidance" in family_of(self.pipeline.network).needs(self.pipeline.network.config)

    def conditions(self, prompts: Any, size: Size) -> Mapping[str, torch.Tensor]:
        """The conditions of these prompts that teacher and student take."""
        scale = {"guidance": torch.full((len(prompts),), self.recipe.guidance)} if self._embeds_guidance else {}
        return {**self.pipeline.encode(prompts, size), **scale}

    def objective(self, network: nn.Module, size: Size) -> Objective:
        """The objective, with this network as the teacher, for images of this size in pixels."""
        recipe = self.recipe
        called = AtPrecision(network, self.device, recipe.training.precision)
        plain = Parameterised(called, self._plain, Targets.SAME)
        null = {name: values.to(self.device) for name, values in self.pipeline.null().items()}
        teaching = Teaching(
            plain,
            plain if self._embeds_guidance else Guided(plain, null, recipe.guidance),
            null,
            recipe.scales,
            self.grid(size),
            UniformTime(self.pipeline.timetable.path, NOISIEST),
            recipe.training.steps(accelerator().num_processes),
        )
        return recipe.kind.build(teaching)

    def grid(self, size: Size) -> tuple[float, ...]:
        """σ/α of the teacher's trajectory in rising order: timestep 0 and then every k-th, as DDIM visits them; of a
        flow, what its scheduler visits in so many steps for images of this size."""
        table = self.pipeline.timetable
        if self._is_flow:
            levels = self.pipeline.levels(self.recipe.solver_steps, self.pipeline.codec.shape((3, *size)))
            return tuple(min(float(ratio), NOISIEST) for ratio in levels.ratio[::-1])
        total = int(table.scheduler.config.num_train_timesteps)
        if self.recipe.solver_steps > total:
            raise ValueError(f"solver_steps must be at most {total}, got {self.recipe.solver_steps}")
        times = np.arange(1, self.recipe.solver_steps + 1) * (total // self.recipe.solver_steps) - 1
        return tuple(float(ratio) for ratio in table.level(np.append(0, times[times > 0])).ratio)

    @property
    def told(self) -> Callable[[int], dict[str, torch.Tensor]] | None:
        """The conditions, for so many samples, that only the student takes."""
        if not self.recipe.kind.told:
            return None
        return lambda size: {"guidance": torch.full((size,), float(self.recipe.guidance))}
