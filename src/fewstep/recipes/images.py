"""Your own images in one step: a diffusion teacher trained on them, then a student by consistency distillation.

Data: a folder of images, WebDataset shards or a Hugging Face data set. If there are captions (or folders by class,
whose names serve as captions), the model takes a prompt; if there are only labels, a class; else nothing. With a
prompt or a class, guidance is distilled into the student. The defaults follow the emoji recipe and suit small
pictures and hours on a CPU; on a GPU use a larger size, widths and budget. They are not tuned to your data, so check
the previews.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from torch import nn

from fewstep.core.parameterisations import Targets
from fewstep.data import DataError, channel_statistics, open_pictures
from fewstep.data.sources import Pictures
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.networks.inputs import NetworkSize
from fewstep.networks.unet import check_size
from fewstep.objectives.times import LogNormal
from fewstep.pictures.frame import Channels, Crop
from fewstep.pictures.pixels import PixelFormat
from fewstep.recipes import two_stage
from fewstep.recipes.two_stage import SIGMA_DATA, TwoStage
from fewstep.training.previews import PreviewSamples
from fewstep.training.saving import resolved, save_model

log = logging.getLogger(__name__)

FORMATS: dict[Channels, PixelFormat] = {"RGB": "rgb", "RGBA": "rgba_premultiplied", "L": "grey"}
LEVELS = {2: (80.0, 0.8)}
"""A guess: the middle σ/α that 2303.01469 found for two steps on CIFAR-10 is near 0.8."""

STUDENT_SIGMA_MIN = 0.4
"""The lowest σ/α that a student visits in any number of steps, unless its objective sets one."""


@dataclass(frozen=True)
class ImagesRecipe:
    """Images from a folder, shards or a Hugging Face data set, in one step.

    Args:
        data: The images: a folder, .tar shards, or a Hugging Face data set by name or path.
        name: Name of the model; the teacher's ends in -teacher.
        size: Side of the images in pixels.
        channels: RGB, RGBA (stickers) or L (grey).
        split: Split of a Hugging Face data set, or of a folder with one subfolder per split.
        config: Configuration of a Hugging Face data set that has several.
        caption_column: Column with the captions, if it is not text, caption or prompt.
        condition: What the model takes: text (a prompt), class, none, or auto: what the data have, captions before
            classes.
        flip: Whether to mirror images left to right in half of the draws.
        crop: How images that are not square are made square.
        licence: Licence of the data and so of the weights, stored in the model.
        patch: Side in pixels of the patch that becomes one position; size must be a multiple of it, times 2 for each
            further resolution. Larger pictures need a larger patch or more resolutions.
        widths: Channels at each resolution of the network. Resolutions after the first have attention if they are 16
            positions a side or smaller.
        depths: Residual blocks at each resolution.
        text_length: Longest prompt in tokens; the rest is cut off.
        text_width: Width of the text transformer.
        drop: Share of prompts or classes left out in training, for guidance.
        guidance: Range of guidance scales that is distilled into the student.
        scale: Default guidance scale.
        stages: Training settings of both stages.
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
    drop: float = 0.1
    guidance: tuple[float, float] = (1.0, 4.0)
    scale: float = 2.0
    stages: Annotated[TwoStage, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TwoStage(density=LogNormal(0.0, 1.7))
    )

    def __post_init__(self) -> None:
        check_size(self.size, self.patch, len(self.widths))

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`; see `two_stage.run`.

        Raises:
            DataError: `data` is not given or cannot be used, or `out` is inside it.
        """
        self.check(out)
        return two_stage.run(self, out)

    def check(self, out: Path) -> None:
        """Log what the data are, and raise early for mistakes that would otherwise show after hours; see `run`."""
        if self.data and out.resolve().is_relative_to(Path(self.data).expanduser().resolve()):
            raise DataError(f"'{out}' is inside the data: its previews would be trained on")
        takes = self.conditioning
        two_stage.check(self)
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
    def model_name(self) -> str:
        return self.name

    @property
    def pixels(self) -> tuple[int, ...]:
        return (len(self.channels), self.size, self.size)

    @property
    def pixel_format(self) -> PixelFormat:
        return FORMATS[self.channels]

    @property
    def conditioning(self) -> Conditioning:
        """The conditioning named by `condition`; `auto` is text if there are captions, class if only labels.

        Raises:
            DataError: the data have no captions or classes to condition on.
        """
        captions, classes = self.dataset.captions, self.dataset.classes
        if self.condition == "text" and not captions:
            raise DataError(f"{self.dataset.name} has no captions: add them, or give another --condition")
        if self.condition == "class" and not classes:
            raise DataError(f"{self.dataset.name} has no classes: add them, or give another --condition")
        text = bool(captions) and self.condition in ("auto", "text")
        return Conditioning(
            SpaceToDepth(self.patch, *self._statistics, SIGMA_DATA),
            conditioners(
                text_length=self.text_length if text else 0,
                classes=classes if not text and self.condition in ("auto", "class") else 0,
            ),
        )

    @property
    def guidance_range(self) -> tuple[float, float] | None:
        takes = self.conditioning
        return self.guidance if takes.text_length or takes.classes else None

    @property
    def network_size(self) -> NetworkSize:
        return NetworkSize(self.widths, self.depths, text_width=self.text_width)

    @property
    def drops(self) -> tuple[float, float]:
        return (self.drop, 0.0)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"framing": [self.channels, self.crop, self.flip]}

    @property
    def prior_stage(self) -> None:
        return None

    def preview(self, spec: ModelSpec) -> PreviewSamples:
        takes, captions = spec.conditioning, self.dataset.captions
        prompts = tuple(captions[i * len(captions) // 16] if takes.text_length else "" for i in range(16))
        labels = tuple(i % takes.classes for i in range(16)) if takes.classes else None
        return PreviewSamples(takes, self.pixels, self.pixel_format, prompts, spec.guidance, labels)

    def describe(self, spec: ModelSpec, is_student: bool) -> ModelSpec:
        is_guided = self.guidance_range is not None and not (is_student and spec.conditioning.guidance is None)
        return replace(
            spec,
            guidance=self.scale if is_guided else None,
            levels=LEVELS if spec.targets is Targets.CLEAN else {},
            sigma_min=self.stages.objective.lowest or STUDENT_SIGMA_MIN if is_student else spec.sigma_min,
            licence=self.licence,
            recipe=resolved(replace(self, data=self.dataset.name), "images"),
            lineage=[{"data": self.dataset.name, "examples": len(self.dataset)}, *spec.lineage],
        )

    def save(self, network: nn.Module, spec: ModelSpec, directory: Path) -> SavedModel:
        captions = self.dataset.captions if spec.conditioning.text_length else []
        return save_model(network, spec, directory, captions)
