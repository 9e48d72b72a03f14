"""Your own images in one step: a diffusion teacher trained on them, then a student by consistency distillation.

Data: a folder of images, WebDataset shards or a Hugging Face data set. Where there are captions (or folders by class,
whose names are read as captions) the model takes a prompt, where there are only labels a class, else nothing; with a
prompt or a class, guidance is folded into the student. The defaults are for small pictures and hours on a CPU, after
the emoji recipe; on a GPU take a larger size, widths and budget. Nothing is known of your data: look at the previews.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from fewstep.core.codecs import SpaceToDepth
from fewstep.core.densities import LogNormal
from fewstep.core.parameterisations import Edm, Targets
from fewstep.data import DataError, channel_statistics, open_pictures
from fewstep.data.images import Channels, Crop
from fewstep.data.sources import Pictures
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import ModelSpec, PixelFormat, SavedModel
from fewstep.models.text import table
from fewstep.networks.registry import describe
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import Diffusion
from fewstep.objectives.objective import Objective
from fewstep.recipes.common import Distillation, Preview, initialise, resolved, save_model
from fewstep.training.batches import DatasetBatches
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, train
from fewstep.training.optimizers import OptimizerConfig

SIGMA_DATA = 0.5
TEXT_LENGTH = 24
FORMATS: dict[Channels, PixelFormat] = {"RGB": "rgb", "RGBA": "rgba_premultiplied", "L": "grey"}
LEVELS = {2: (80.0, 0.8)}
"""The middle σ/α of two steps that 2303.01469 found on CIFAR-10 lies near 0.8; a guess for other data."""


def _teacher_training() -> TrainingConfig:
    return TrainingConfig(
        images=500_000,
        batch=128,
        precision="bf16",
        optimizer=OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, decay_from=0.4),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=200,
        preview_every=500,
    )


def _student_training() -> TrainingConfig:
    return TrainingConfig(
        images=100_000,
        precision="bf16",
        seed=1,
        optimizer=OptimizerConfig(kind="adamw", lr=2e-4, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=200,
        preview_every=500,
    )


@dataclass(frozen=True)
class ImagesRecipe:
    """Images from a folder, shards or a Hugging Face data set, in one step.

    Args:
        data: the images: a folder, .tar shards, or a Hugging Face data set by name or path.
        name: the model's; the teacher's is this with -teacher.
        size: pixels a side.
        channels: RGB, RGBA (stickers) or L (grey).
        split: of a Hugging Face data set.
        flip: mirror left and right in half of the draws.
        crop: how images of another shape are brought to a square.
        licence: of the data and so of the weights, kept in the model.
        patch: pixels a side of what becomes one position; size must be a multiple of it and of 2 for each further
            resolution.
        widths, depths: of the U-Net; it attends at all but the first resolution.
        text_width: of the text's transformer.
        density: of the teacher's noise levels.
        drop: the share of prompts or classes left out, for guidance.
        guidance: the range of scales distilled into the student.
        scale: the guidance scale used if none is asked for.
        distillation: from the teacher to the student.
        teacher, student: how long and how each is trained.
    """

    data: str = ""
    name: str = "images"
    size: int = 32
    channels: Channels = "RGB"
    split: str = "train"
    flip: bool = False
    crop: Crop = "center"
    licence: str = ""
    patch: int = 2
    widths: tuple[int, ...] = (64, 128, 192)
    depths: tuple[int, ...] = (1, 2, 1)
    text_width: int = 128
    density: LogNormal = field(default_factory=lambda: LogNormal(0.0, 1.7))
    drop: float = 0.1
    guidance: tuple[float, float] = (1.0, 4.0)
    scale: float = 2.0
    distillation: Distillation = field(default_factory=Distillation)
    teacher: TrainingConfig = field(default_factory=_teacher_training)
    student: TrainingConfig = field(default_factory=_student_training)

    def __post_init__(self) -> None:
        cell = self.patch * 2 ** (len(self.widths) - 1)
        if self.size < cell or self.size % cell:
            raise ValueError(
                f"size must be a multiple of {cell} (patch {self.patch}, {len(self.widths)} resolutions), "
                f"got {self.size}"
            )

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`."""
        network = self.network(distilled=False)
        self.spec(network, self.name).check()  # what is wrong is better known before the training than after
        teacher = self._train("teacher", network, Diffusion(self.density, SIGMA_DATA), out)
        parent = self.save(teacher, out / "models" / f"{self.name}-teacher")
        conditioning = self.conditioning(distilled=True)
        student = self.network(distilled=True)
        initialise(student, teacher, new=("embedding.guidance.",))
        objective = self.distillation.objective(teacher, Edm(SIGMA_DATA), self.student.precision, conditioning)
        return self.save(self._train("student", student, objective, out), out / "models" / self.name, parent)

    @cached_property
    def dataset(self) -> Pictures:
        """The images.

        Raises:
            DataError: `data` is not given, or holds no images.
        """
        if not self.data:
            raise DataError("give --data: a folder of images, .tar shards, or a Hugging Face data set")
        return open_pictures(self.data, self.size, self.channels, self.split, self.flip, self.crop)

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_statistics(self.dataset)

    @property
    def pixels(self) -> tuple[int, ...]:
        return (len(self.channels), self.size, self.size)

    def conditioning(self, distilled: bool) -> Conditioning:
        """By text where there are captions, by class where there are only labels."""
        text = bool(self.dataset.captions)
        classes = 0 if text else self.dataset.classes
        return Conditioning(
            SpaceToDepth(self.patch, *self._statistics, SIGMA_DATA),
            text_length=TEXT_LENGTH if text else 0,
            classes=classes,
            guidance=self.guidance if distilled and (text or classes) else None,
        )

    def network(self, distilled: bool) -> UNet:
        conditioning = self.conditioning(distilled)
        torch.manual_seed(0)
        return UNet(
            UNetConfig(
                channels=len(self.channels) * self.patch**2,
                widths=self.widths,
                depths=self.depths,
                attention=(False, *(True for _ in self.widths[1:])),
                text=table().width if conditioning.text_length else 0,
                text_length=TEXT_LENGTH,
                text_width=self.text_width,
                classes=conditioning.classes,
                guidance=conditioning.guidance is not None,
            )
        )

    def _train(self, stage: str, network: UNet, objective: Objective, out: Path) -> UNet:
        distilled = stage == "student"
        config = self.student if distilled else self.teacher
        conditioning = self.conditioning(distilled)
        source = DatasetBatches(self.dataset, conditioning, config.seed, 0.0 if distilled else self.drop)
        average = train(
            network, Edm(SIGMA_DATA), objective, source, config, out / stage, [self._preview(stage, conditioning)]
        )
        assert isinstance(average, UNet)
        return average

    def _preview(self, stage: str, conditioning: Conditioning) -> Preview:
        captions = self.dataset.captions
        chosen = [captions[i * len(captions) // 16] if captions else "" for i in range(16)]
        return Preview(
            stage,
            conditioning,
            self.pixels,
            FORMATS[self.channels],
            tuple(chosen),
            "consistency" if stage == "student" else "heun",
            (1, 2) if stage == "student" else (18,),
            self.scale if conditioning.text_length or conditioning.classes else None,
            labels=tuple(i % conditioning.classes for i in range(16)) if conditioning.classes else None,
            levels=LEVELS,
        )

    def spec(self, network: UNet, name: str, parent: SavedModel | None = None) -> ModelSpec:
        """What model.json says of the teacher, or with its `parent` of the student."""
        conditioning = self.conditioning(distilled=parent is not None)
        return ModelSpec(
            name=name,
            network=describe(network),
            parameterisation=Edm(SIGMA_DATA),
            targets=Targets.SAME if parent is None else Targets.CLEAN,
            conditioning=conditioning,
            pixels=self.pixels,
            pixel_format=FORMATS[self.channels],
            sampler="heun" if parent is None else "consistency",
            steps=18 if parent is None else 1,
            guidance=self.scale if conditioning.text_length or conditioning.classes else None,
            levels={} if parent is None else LEVELS,
            licence=self.licence,
            recipe=resolved(replace(self, data=self.dataset.name), "images"),
            lineage=[{"data": self.dataset.name, "examples": len(self.dataset)}]
            + ([] if parent is None else [{"teacher": parent.spec.name, "hash": parent.hash}]),
        )

    def save(self, network: UNet, directory: Path, parent: SavedModel | None = None) -> SavedModel:
        """Save the teacher, or with its `parent` the student."""
        return save_model(network, self.spec(network, directory.name, parent), directory, self.dataset.captions)
