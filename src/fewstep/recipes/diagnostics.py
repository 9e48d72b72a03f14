"""What a distillation is watched by beside its loss, which says little of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewstep.core.grids import karras
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.core.randomness import Noise
from fewstep.models.conditioning import Conditioning
from fewstep.recipes.common import SIGMA_MAX
from fewstep.samplers import SAMPLERS
from fewstep.training.batches import tensors
from fewstep.training.loop import Moment


@dataclass
class DistanceToTeacher:
    """An observer that tells how far the student's samples are from where the teacher takes the same noise.

    Nothing is asked of either (no prompt, no label, guidance 1), and no noise is added between the student's steps:
    for both a sample is a function of its noise.

    Args:
        teacher: the denoiser.
        conditioning: the student's.
        pixels: the shape of one sample, as decoded.
        steps: of the student, one number for each.
        samples: how many.
        teacher_steps: of Heun's method.
        sigma_min: the lowest of the student's levels before clean.
    """

    teacher: Estimator
    conditioning: Conditioning
    pixels: Sequence[int]
    steps: tuple[int, ...] = (1, 2, 4)
    samples: int = 64
    teacher_steps: int = 18
    sigma_min: float = 0.05
    _end: Tensor | None = field(default=None, init=False, repr=False)

    def __call__(self, moment: Moment) -> dict[str, float]:
        """Root mean square distances in units of the data, by name."""
        device, student = moment.device, moment.average
        arrays = self.conditioning.arrays([""] * self.samples, None, None, self.pixels, 1.0)
        cond = {name: values.to(device) for name, values in tensors(arrays).items()}
        shape = self.conditioning.codec.shape(self.pixels)
        noise = Noise(range(self.samples), shape, torch.zeros(0, device=device))
        x = noise(0) * SIGMA_MAX
        if self._end is None:
            own = {name: values for name, values in cond.items() if name != "guidance"}
            *_, last = SAMPLERS["heun"].run(self.teacher, x, karras(self.teacher_steps), own)
            self._end = last.x
        sampler = SAMPLERS["flow_map" if student.targets is Targets.ANY else "consistency"]
        distances = {}
        for steps in self.steps:
            levels = karras(steps, self.sigma_min, SIGMA_MAX)
            *_, last = sampler.run(student, x, levels, cond, noise=noise, gamma=0.0)
            distances[f"distance_to_teacher/{steps}"] = float((last.x - self._end).square().mean().sqrt())
        return distances
