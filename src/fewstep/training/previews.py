"""Preview samples drawn during training, always with the same conditions and noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from fewstep.core.arrays import Array, Condition
from fewstep.core.grids import karras
from fewstep.core.guidance import Guided
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator
from fewstep.core.randomness import Noise
from fewstep.models.conditioning import Conditioning
from fewstep.pictures.pixels import PixelFormat, to_image
from fewstep.samplers import SAMPLERS
from fewstep.training.batches import tensors
from fewstep.training.loop import TrainingState


def null_condition(conditioning: Conditioning) -> Condition:
    """The null condition of one sample, as tensors [1, ...]; control images are never part of guidance."""
    return tensors(conditioning.unguided(1))


@dataclass(frozen=True)
class PreviewSamples:
    """The samples to draw during training, each with its own seed.

    Args:
        conditioning, pixels, pixel_format: those of the model.
        prompts: one per sample; empty strings for models without text.
        guidance: guidance scale; None for no guidance.
        labels: classes instead of prompts.
        columns: samples per row of the preview.
    """

    conditioning: Conditioning
    pixels: tuple[int, ...]
    pixel_format: PixelFormat
    prompts: tuple[str, ...]
    guidance: float | None = None
    labels: tuple[int, ...] | None = None
    columns: int = 8

    @property
    def is_points(self) -> bool:
        """Whether the samples are points in the plane instead of images."""
        return self.pixel_format == "points"

    def cond(self, device: torch.device) -> Condition:
        """The condition of all samples."""
        size = len(self.prompts)
        scales = None if self.guidance is None else [self.guidance] * size
        arrays = self.conditioning.encode(size, prompt=self.prompts, label=self.labels, guidance=scales)
        return {name: values.to(device) for name, values in tensors(arrays).items()}

    def noise(self, device: torch.device) -> Noise:
        """The noise of each sample, seeded by its index."""
        shape = self.conditioning.codec.shape(self.pixels)
        return Noise(range(len(self.prompts)), shape, torch.zeros(0, device=device))

    def guided(self, estimator: Estimator, device: torch.device) -> Estimator:
        """The estimator guided at the scale, by two evaluations unless the scale is one of its inputs."""
        if self.guidance is None or self.conditioning.guidance is not None:
            return estimator
        null = null_condition(self.conditioning)
        on_device = {name: torch.as_tensor(values, device=device) for name, values in null.items()}
        return Guided(estimator, on_device, self.guidance)

    def images(self, x: Array) -> list[Image.Image]:
        """Data [b, ...] as opaque images."""
        pixels = torch.as_tensor(self.conditioning.codec.decode(x)).float().cpu().numpy()
        return [to_image(each, self.pixel_format, "white").convert("RGB") for each in pixels]


@dataclass(frozen=True)
class Preview:
    """A callback that draws samples with the averaged weights.

    Args:
        name: name of the picture.
        samples: the samples to draw for each number of steps.
        sampler, steps: name of the sampler and numbers of steps.
        grid: function from a number of steps to the levels to visit: `ModelSpec.grid`.
    """

    name: str
    samples: PreviewSamples
    sampler: str
    steps: tuple[int, ...]
    grid: Callable[[int], Level] = karras

    def __call__(self, state: TrainingState) -> dict[str, Image.Image]:
        device = state.device
        cond, noise = self.samples.cond(device), self.samples.noise(device)
        estimator, sampler = self.samples.guided(state.average, device), SAMPLERS[self.sampler]
        tiles = []
        for steps in self.steps:
            levels = self.grid(steps)
            x = noise(0) * float(levels.sigma[0])
            extra = {} if sampler.gamma is None else {"noise": noise}
            *_, last = sampler.run(estimator, x, levels, cond, **extra)
            tiles += self.samples.images(last.x)
        return {self.name: self._sheet(tiles)}

    def _sheet(self, tiles: Sequence[Image.Image]) -> Image.Image:
        width, height = tiles[0].size
        columns = min(self.samples.columns, len(tiles))
        sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
        for i, tile in enumerate(tiles):
            sheet.paste(tile, (i % columns * width, i // columns * height))
        enlarged = max(1, 96 // width)
        return sheet.resize((enlarged * sheet.width, enlarged * sheet.height), Image.Resampling.NEAREST)
