"""The distance of a student's samples from its teacher's, of which its loss says little."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fewstep.core.grids import SIGMA_MAX, karras
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.pictures.sheet import Row, sheet
from fewstep.samplers import SAMPLERS
from fewstep.training.charts import drawn
from fewstep.training.loop import TrainingState
from fewstep.training.previews import PreviewSamples

MAX_COLUMNS = 8
"""The approximate number of images per row of the picture."""


@dataclass
class DistanceToTeacher:
    """A callback that measures the distance of the student's samples from the teacher's samples from the same noise.

    Both draw the same prompts or classes. The guidance scale is an input of a student that has one, and is applied to
    the teacher by two evaluations. No noise is added between the student's steps, so that each sample of both models
    is a function of its initial noise. Even an exact consistency function is closest in one step: with more, it keeps
    noise that the flow does not.

    Args:
        teacher: the denoiser, without a guidance scale as input.
        samples: the student's samples.
        grid: function from a number of steps to the student's levels.
        steps: numbers of steps of the student.
        teacher_steps: steps of Heun's method for the teacher.
    """

    teacher: Estimator
    samples: PreviewSamples
    grid: Callable[[int], Level]
    steps: tuple[int, ...] = (1, 2, 4)
    teacher_steps: int = 18
    _end: Tensor | None = field(default=None, init=False, repr=False)

    def __call__(self, state: TrainingState) -> dict[str, float | Image.Image]:
        """Root mean square distances in the units of the data, by name, and a picture of the samples."""
        device, student = state.device, state.average
        cond, noise = self.samples.cond(device), self.samples.noise(device)
        x = torch.as_tensor(noise(0) * SIGMA_MAX)
        if self._end is None:
            self._end = self._end_of_teacher(x)
        sampler = SAMPLERS["flow_map" if student.targets is Targets.ANY else "consistency"]
        ends, distances = {}, {}
        for steps in self.steps:
            *_, last = sampler.run(student, x, self.grid(steps), cond, noise=noise, gamma=0.0)
            ends[steps] = torch.as_tensor(last.x)
            distances[steps] = float((ends[steps] - self._end).square().mean().sqrt())
        picture = _scatter(self._end, ends, distances) if self.samples.is_points else self._rows(ends, distances)
        named = {f"distance_to_teacher/{steps}": distance for steps, distance in distances.items()}
        return {**named, "student_beside_teacher": picture}

    def _end_of_teacher(self, x: Tensor) -> Tensor:
        samples = replace(self.samples, conditioning=self.samples.conditioning.without("guidance"))
        teacher = samples.guided(self.teacher, x.device)
        *_, last = SAMPLERS["heun"].run(teacher, x, karras(self.teacher_steps), samples.cond(x.device))
        return torch.as_tensor(last.x)

    def _rows(self, ends: Mapping[int, Tensor], distances: Mapping[int, float]) -> Image.Image:
        """Some of the samples: the teacher's in the first row, and the student's below."""
        assert self._end is not None
        some = slice(None, None, -(-len(self._end) // MAX_COLUMNS))
        rows = [Row("teacher", f"{self.teacher_steps} steps", self.samples.images(self._end[some]))]
        for steps, end in ends.items():
            rows.append(Row(_count(steps), f"{distances[steps]:.3f} away", self.samples.images(end[some])))
        return sheet(rows)


def _scatter(teacher: Tensor, ends: Mapping[int, Tensor], distances: Mapping[int, float]) -> Image.Image:
    """Points in the plane, with a line from each of the student's to the teacher's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(ends), 4.5), dpi=100, layout="constrained")
    panels: Sequence[Any] = figure.subplots(1, len(ends), squeeze=False)[0]
    goal = teacher.cpu().numpy()
    for axes, (steps, end) in zip(panels, ends.items(), strict=True):
        points = end.cpu().numpy()
        axes.plot(*zip(goal.T, points.T, strict=True), color="#8A8A8A", lw=0.6, zorder=1)
        axes.plot(*goal.T, "o", color="#0072B2", ms=5, mec="none", alpha=0.7, label="teacher")
        axes.plot(*points.T, "o", color="#D55E00", ms=3.5, mec="none", label="student")
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_title(f"{_count(steps)}: {distances[steps]:.3f} away", loc="left", fontsize=11)
    panels[0].legend(fontsize=8, loc="upper left")
    return drawn(figure)


def _count(steps: int) -> str:
    return f"{steps} step{'s' if steps > 1 else ''}"
