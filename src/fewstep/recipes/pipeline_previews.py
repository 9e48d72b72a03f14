"""Previews of a pipeline that is made few-step: the teacher in many steps beside the student in 1, 2 and 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, FlowMatchLCMScheduler, LCMScheduler
from PIL import Image, ImageDraw
from torch import Tensor

from fewstep.core.arrays import Array
from fewstep.core.guidance import Guided
from fewstep.core.levels import Linear
from fewstep.core.parameterisations import Targets
from fewstep.core.randomness import Noise
from fewstep.data.encoded import Size
from fewstep.interop.diffusers.pipeline import Pipeline
from fewstep.interop.diffusers.timesteps import Timetable
from fewstep.recipes.distill_networks import as_teacher
from fewstep.samplers import consistency, euler, flow_map
from fewstep.training.encoded_batches import Encode
from fewstep.training.loop import TrainingState

TEACHER_STEPS = 25
STEPS = (1, 2, 4)
_MARGIN = 16  # pixels of the strip that names a row


@dataclass(frozen=True)
class PipelinePreview:
    """A callback that draws the same prompts from the same noise: a row per number of steps.

    Args:
        pipeline: the pipeline, whose network is the teacher; without its adapters if it has any.
        encode: conditions of prompts for a size, those of the teacher.
        prompts: one per column.
        size: of the pictures, height and width.
        guidance: the teacher's guidance scale.
        told: the further conditions of the student, for so many samples; None for none.
        targets: the jumps that the student makes.
    """

    pipeline: Pipeline
    encode: Encode
    prompts: tuple[str, ...]
    size: Size
    guidance: float
    told: Callable[[int], Mapping[str, Tensor]] | None = None
    targets: Targets = Targets.CLEAN

    def __call__(self, state: TrainingState) -> dict[str, Image.Image]:
        shape = self.pipeline.codec.shape((3, *self.size))
        noise = Noise(range(len(self.prompts)), shape, torch.zeros(0, device=state.device))
        cond = self._on(state.device, self.encode(self.prompts, self.size))
        rows: dict[str, Array] = {f"teacher, {TEACHER_STEPS} steps": self._teacher(cond, noise, state.device)}
        own = self._on(state.device, {} if self.told is None else self.told(len(self.prompts)))
        for steps in STEPS:
            levels = self._few_steps.levels(steps, shape)
            x = noise(0) * float(levels.sigma[0])
            sampler = flow_map if self.targets is Targets.ANY else consistency
            *_, last = sampler(state.average, x, levels, {**cond, **own}, noise)
            rows[f"student, {steps} step{'s' if steps > 1 else ''}"] = last.x
        decode = self.pipeline.codec.decode
        return {"distilled": self._sheet({name: torch.as_tensor(decode(x)) for name, x in rows.items()})}

    @property
    def _few_steps(self) -> Pipeline:
        """The pipeline with the scheduler of the student."""
        return replace(
            self.pipeline, timetable=Timetable.of(few_step_scheduler(self.pipeline.timetable, self.targets))
        )

    def _teacher(self, cond: Mapping[str, Tensor], noise: Noise, device: torch.device) -> Array:
        plain = self.pipeline.estimator(Targets.SAME)
        null = {} if "guidance" in cond else self._on(device, self.pipeline.null())
        guided = Guided(plain, null, self.guidance) if null else plain
        levels = self.pipeline.levels(TEACHER_STEPS, self.pipeline.codec.shape((3, *self.size)))
        x = noise(0) * float(levels.sigma[0])
        with as_teacher(self.pipeline.network):
            *_, last = euler(guided, x, levels, cond)
        return last.x

    def _on(self, device: torch.device, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: values.to(device) for name, values in arrays.items()}

    def _sheet(self, rows: Mapping[str, Tensor]) -> Image.Image:
        height, width = self.size
        sheet = Image.new("RGB", (width * len(self.prompts), (height + _MARGIN) * len(rows)), "white")
        for row, (name, pixels) in enumerate(rows.items()):
            top = row * (height + _MARGIN)
            ImageDraw.Draw(sheet).text((2, top + 2), name, fill="black")
            for column, image in enumerate(pixels.float().cpu().numpy()):
                tile = (image.clip(0, 1).transpose(1, 2, 0) * 255).round().astype(np.uint8)
                sheet.paste(Image.fromarray(tile), (column * width, top + _MARGIN))
        return sheet


def few_step_scheduler(timetable: Timetable, targets: Targets) -> Any:
    """diffusers' scheduler for a consistency model or a flow map on this table.

    DDIM's step with the estimate of a flow map is the flow map's jump.
    """
    if targets is Targets.ANY:
        return DDIMScheduler.from_config(
            timetable.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
        )
    kind = FlowMatchLCMScheduler if isinstance(timetable.path, Linear) else LCMScheduler
    return kind.from_config(timetable.scheduler.config)
