"""Your own images in one step: a diffusion teacher trained on them, then a student by consistency distillation.

Data: a folder of images, WebDataset shards or a Hugging Face data set. Where there are captions (or folders by class,
whose names are read as captions) the model takes a prompt, where there are only labels a class, else nothing; with a
prompt or a class, guidance is folded into the student. The defaults are for small pictures and hours on a CPU, after
the emoji recipe; on a GPU take a larger size, widths and budget. Nothing is known of your data: look at the previews.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from fewstep.core.parameterisations import Edm, Targets
from fewstep.data import DataError, channel_statistics, open_pictures
from fewstep.data.sources import Pictures
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import WEIGHTS, ModelSpec, SavedModel
from fewstep.models.text import table
from fewstep.networks.registry import describe
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import ConsistencyDistillation, Diffusion
from fewstep.objectives.objective import Objective
from fewstep.objectives.times import LogNormal
from fewstep.pictures.frame import Channels, Crop
from fewstep.pictures.pixels import PixelFormat
from fewstep.recipes.common import (
    Asked,
    Distillation,
    Preview,
    check_size,
    initialise,
    lineage,
    resolved,
    save_model,
    start_from,
    student_training,
    teacher_training,
)
from fewstep.recipes.diagnostics import DistanceToTeacher
from fewstep.training.batches import DatasetBatches
from fewstep.training.loop import Callback, TrainingConfig, train

log = logging.getLogger(__name__)

SIGMA_DATA = 0.5
FORMATS: dict[Channels, PixelFormat] = {"RGB": "rgb", "RGBA": "rgba_premultiplied", "L": "grey"}
LEVELS = {2: (80.0, 0.8)}
"""The middle σ/α of two steps that 2303.01469 found on CIFAR-10 lies near 0.8; a guess for other data."""


@dataclass(frozen=True)
class ImagesRecipe:
    """Images from a folder, shards or a Hugging Face data set, in one step.

    Args:
        data: the images: a folder, .tar shards, or a Hugging Face data set by name or path.
        name: the model's; the teacher's is this with -teacher.
        size: pixels a side.
        channels: RGB, RGBA (stickers) or L (grey).
        split: of a Hugging Face data set, or of a folder with one folder for each split.
        config: of a Hugging Face data set that has several.
        caption_column: where captions stand, if not in text, caption or prompt.
        condition: what the model takes: a prompt, a class, nothing, or what the data have (captions before classes).
        flip: mirror left and right in half of the draws.
        crop: how images of another shape are brought to a square.
        licence: of the data and so of the weights, kept in the model.
        patch: pixels a side of what becomes one position; size must be a multiple of it and of 2 for each further
            resolution. Larger pictures want a larger patch or more resolutions.
        widths, depths: of the U-Net, one for each resolution. It attends where 16 positions a side or fewer are
            left, but not at the first resolution.
        text_length: tokens kept of a prompt.
        text_width: of the text's transformer.
        density: of the teacher's noise levels.
        drop: the share of prompts or classes left out, for guidance.
        guidance: the range of scales distilled into the student.
        scale: the guidance scale used if none is asked for.
        distillation: from the teacher to the student.
        teacher, student: how long and how each is trained.
        start: a saved teacher of the same shape to train further, instead of one from scratch.
    """

    data: str = ""
    name: str = "images"
    size: int = 32
    channels: Channels = "RGB"
    split: str = "train"
    config: str | None = None
    caption_column: str | None = None
    condition: Literal["auto", "text", "class", "none"] = "auto"
    flip: bool = False
    crop: Crop = "center"
    licence: str = ""
    patch: int = 2
    widths: tuple[int, ...] = (64, 128, 192)
    depths: tuple[int, ...] = (1, 2, 1)
    text_length: int = 24
    text_width: int = 128
    density: LogNormal = field(default_factory=lambda: LogNormal(0.0, 1.7))
    drop: float = 0.1
    guidance: tuple[float, float] = (1.0, 4.0)
    scale: float = 2.0
    distillation: Distillation = field(default_factory=Distillation)
    teacher: TrainingConfig = field(default_factory=lambda: teacher_training(500_000))
    student: TrainingConfig = field(default_factory=lambda: student_training(100_000))
    start: Path | None = None

    def __post_init__(self) -> None:
        check_size(self.size, self.patch, len(self.widths))

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`.

        Raises:
            DataError: `data` is not given or cannot be used, or `out` lies inside it.
            ModelError: `start` is not there.
            ValueError: settings that no model can have, or a `start` that does not fit.
        """
        self.check(out)
        network = self.network(distilled=False)
        start = None if self.start is None else start_from(network, self.start)
        teacher = self._train(network, Diffusion(self.density, SIGMA_DATA), out / "teacher", start=start)
        parent = self.save(teacher, out / "models" / f"{self.name}-teacher")
        conditioning = self.conditioning(distilled=True)
        student = self.network(distilled=True)
        initialise(student, teacher, new=("embedding.guidance.",))
        objective = self.distillation.objective(teacher, Edm(SIGMA_DATA), self.student, conditioning)
        student = self._train(student, objective, out / "student", parent)
        return self.save(student, out / "models" / self.name, parent)

    def check(self, out: Path) -> None:
        """Raise for what would otherwise be found out after hours, and say what the data are; see `run`."""
        if self.data and out.resolve().is_relative_to(Path(self.data).expanduser().resolve()):
            raise DataError(f"'{out}' lies inside the data: its previews would be trained on")
        if self.start is not None:
            start_from(self.network(distilled=False), self.start)
        for name, distilled in ((f"{self.name}-teacher", False), (self.name, True)):
            self.spec(self.network(distilled), name, distilled=distilled).check()
        takes = self.conditioning(distilled=False)
        kind = "a prompt" if takes.text_length else f"one of {takes.classes} classes" if takes.classes else "nothing"
        log.info(
            "%s: %d images, %d captions; the model will take %s (--condition)",
            self.dataset.name,
            len(self.dataset),
            len(self.dataset.captions),
            kind,
        )

    @cached_property
    def dataset(self) -> Pictures:
        """The images.

        Raises:
            DataError: `data` is not given, or holds no images.
        """
        if not self.data:
            raise DataError("give --data: a folder of images, .tar shards, or a Hugging Face data set")
        return open_pictures(
            self.data,
            self.size,
            self.channels,
            self.split,
            self.flip,
            self.crop,
            caption_column=self.caption_column,
            config=self.config,
        )

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_statistics(self.dataset)

    @property
    def pixels(self) -> tuple[int, ...]:
        return (len(self.channels), self.size, self.size)

    def conditioning(self, distilled: bool) -> Conditioning:
        """What `condition` says; `auto` is text where there are captions and class where there are only labels.

        Raises:
            DataError: it asks for what the data do not have.
        """
        captions, classes = self.dataset.captions, self.dataset.classes
        if self.condition == "text" and not captions:
            raise DataError(f"{self.dataset.name} has no captions: give them, or another --condition")
        if self.condition == "class" and not classes:
            raise DataError(f"{self.dataset.name} has no classes: give them, or another --condition")
        text = bool(captions) and self.condition in ("auto", "text")
        classes = classes if not text and self.condition in ("auto", "class") else 0
        return Conditioning(
            SpaceToDepth(self.patch, *self._statistics, SIGMA_DATA),
            text_length=self.text_length if text else 0,
            classes=classes,
            guidance=self.guidance if distilled and (text or classes) else None,
        )

    def network(self, distilled: bool) -> UNet:
        conditioning = self.conditioning(distilled)
        sides = [self.size // self.patch >> level for level in range(len(self.widths))]
        torch.manual_seed(0)
        return UNet(
            UNetConfig(
                channels=len(self.channels) * self.patch**2,
                widths=self.widths,
                depths=self.depths,
                attention=(False, *(side <= 16 for side in sides[1:])),
                text=table().width if conditioning.text_length else 0,
                text_length=self.text_length,
                text_width=self.text_width,
                classes=conditioning.classes,
                guidance=conditioning.guidance is not None,
            )
        )

    def _train(
        self,
        network: UNet,
        objective: Objective,
        out: Path,
        parent: SavedModel | None = None,
        start: SavedModel | None = None,
    ) -> UNet:
        distilled = parent is not None
        config = self.student if distilled else self.teacher
        conditioning = self.conditioning(distilled)
        drop = 0.0 if distilled else self.drop
        source = DatasetBatches(self.dataset, conditioning, config.seed, drop, config.workers)
        spec = self.spec(network, self.name, parent, distilled)
        asked = self._asked(spec)
        name, steps = ("student", (1, 2)) if distilled else ("teacher", (18,))
        callbacks: list[Callback] = [Preview(name, asked, spec.sampler, steps, spec.grid)]
        if isinstance(objective, ConsistencyDistillation):
            callbacks.append(DistanceToTeacher(objective.teacher, asked, spec.grid))
        facts = {
            "framing": [self.channels, self.crop, self.flip],
            "teacher": None if parent is None else parent.spec.files[WEIGHTS],
            "start": None if start is None else start.spec.files[WEIGHTS],
        }
        average = train(network, Edm(SIGMA_DATA), objective, source, config, out, callbacks, facts)
        assert isinstance(average, UNet)
        return average

    def _asked(self, spec: ModelSpec) -> Asked:
        takes, captions = spec.conditioning, self.dataset.captions
        chosen = [captions[i * len(captions) // 16] if takes.text_length else "" for i in range(16)]
        labels = tuple(i % takes.classes for i in range(16)) if takes.classes else None
        return Asked(takes, self.pixels, spec.pixel_format, tuple(chosen), spec.guidance, labels)

    def spec(self, network: UNet, name: str, parent: SavedModel | None = None, distilled: bool = False) -> ModelSpec:
        """What model.json says: of the teacher, or `distilled` of the student with its `parent`."""
        conditioning = self.conditioning(distilled)
        return ModelSpec(
            name=name,
            network=describe(network),
            parameterisation=Edm(SIGMA_DATA),
            targets=Targets.CLEAN if distilled else Targets.SAME,
            conditioning=conditioning,
            pixels=self.pixels,
            pixel_format=FORMATS[self.channels],
            sampler="consistency" if distilled else "heun",
            steps=1 if distilled else 18,
            guidance=self.scale if conditioning.text_length or conditioning.classes else None,
            levels=LEVELS if distilled else {},
            sigma_min=self.distillation.sigma_min if distilled else 0.002,
            licence=self.licence,
            recipe=resolved(replace(self, data=self.dataset.name), "images"),
            lineage=[{"data": self.dataset.name, "examples": len(self.dataset)}, *lineage(parent, self.start)],
        )

    def save(self, network: UNet, directory: Path, parent: SavedModel | None = None) -> SavedModel:
        """Save the teacher, or with its `parent` the student."""
        spec = self.spec(network, directory.name, parent, parent is not None)
        captions = self.dataset.captions if spec.conditioning.text_length else []
        return save_model(network, spec, directory, captions)
